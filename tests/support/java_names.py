"""Names of Java that PySpark looks up again and again are looked up once.

The Java side searches all jars for a package and copies all methods of a class at each lookup: three hundred times per
small fit, about a tenth of its CPU time.
"""

from py4j.java_gateway import JavaClass, JavaMember, JavaPackage, JVMView


def look_up_once():
    """Keep packages, classes and methods where they were found; values of static fields may change and are not kept."""
    for kind in (JVMView, JavaPackage, JavaClass):
        kind.__getattr__ = _keeping(kind.__getattr__)


def _keeping(look_up):
    def found(self, name):
        value = look_up(self, name)
        if isinstance(value, JavaPackage | JavaClass | JavaMember):
            self.__dict__[name] = value
        return value

    return found
