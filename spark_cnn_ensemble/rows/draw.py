"""How rows are drawn into bags: one class per bagging strategy.

A row's bags are a pure function of its key, the seed and the member. The same draw can therefore be replayed on any
cluster, in any order and after any retry; the out-of-bag estimate does so. Spark expressions only.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pyspark.sql import Column
from pyspark.sql import functions as F

_GUESTS = 0.1  # guests (see `Draw.guest_limit`) per row that is sent to train


@dataclass(frozen=True)
class Draw(ABC):
    """A draw of the rows into bags; each bagging strategy is a subclass, listed in `STRATEGIES`.

    Parameters
    ----------
    rate : float
        Expected size of a bag over the number of rows (subsamplingRate).
    num_members : int
    seed : int
    """

    rate: float
    num_members: int
    seed: int

    bagging: ClassVar[str]  # the strategy's name: the value of the Param bagging
    meaning: ClassVar[str]  # for that Param's documentation
    largest_rate: ClassVar[float] = math.inf

    @abstractmethod
    def copies(self, key: Column, member: Column) -> Column:
        """How many times a row is in the bag of a member.

        Parameters
        ----------
        key : Column
            bigint, the row's key.
        member : Column
            int, 0 to `num_members` - 1.

        Returns
        -------
        Column
            int, >= 0.
        """

    @property
    @abstractmethod
    def in_bag_share(self) -> float:
        """Probability that a row is in the bag of a given member."""

    @property
    def in_any_share(self) -> float:
        """Probability that a row is in any bag."""
        return 1 - (1 - self.in_bag_share) ** self.num_members

    @property
    def leaves_rows_out(self) -> bool:
        """Whether some rows are not in every bag, so that there can be an out-of-bag estimate."""
        return True

    @property
    def guest_limit(self) -> float:
        """Ticket below which a row in no bag is sent to a worker, as a guest of the out-of-bag sample.

        Guests add at most about 10 % to the rows that are sent to workers.
        """
        in_no_bag = 1 - self.in_any_share
        return min(1.0, _GUESTS * self.in_bag_share * self.num_members / max(in_no_bag, 1e-12))

    def check(self, owner: str) -> None:
        """Refuse a rate that is too large for this strategy.

        Parameters
        ----------
        owner : str
            The class that has the Param, for the message.

        Raises
        ------
        ValueError
        """
        if self.rate > self.largest_rate:
            raise ValueError(
                f"The 'subsamplingRate' parameter of {owner} must be <= {self.largest_rate} where bagging is "
                f"{self.bagging!r}. Got {self.rate} instead."
            )

    def ticket(self, key: Column) -> Column:
        """A uniform number in [0, 1); the rows with the lowest tickets are the out-of-bag sample."""
        return _uniform(key, F.lit(self.seed), F.lit("ticket"))

    def bags(self, key: Column, validates: Column, with_guests: bool) -> Column:
        """The bags that a row goes to.

        Validation rows go to every member. With guests, a row in no bag goes to one member if its ticket is below
        `guest_limit`; it can then be in the out-of-bag sample.

        Parameters
        ----------
        key : Column
            bigint, the row's key.
        validates : Column
            boolean.
        with_guests : bool

        Returns
        -------
        Column
            array<struct<member int, copies int>>; copies is 0 where the row is not trained on.
        """
        drawn = self._drawn(key)
        chosen = F.when(validates, F.transform(self._members, lambda member: _bag(member, F.lit(0))))
        if with_guests and 1 - self.in_any_share >= 1e-3:  # else there are hardly any such rows
            guest = F.array(_bag(_one_of(key, self.num_members, self.seed), F.lit(0)))
            chosen = chosen.when((F.size(drawn) == 0) & (self.ticket(key) < self.guest_limit), guest)
        return chosen.otherwise(drawn)

    def identity(self) -> dict[str, Any]:
        """What distinguishes this draw from others, as plain values for JSON; checkpoints hold it."""
        return {"bagging": self.bagging, **asdict(self)}

    @property
    def _members(self) -> Column:
        return F.sequence(F.lit(0), F.lit(self.num_members - 1))

    def _drawn(self, key: Column) -> Column:
        """The bags in which a row has copies."""
        bags = F.transform(self._members, lambda member: _bag(member, self.copies(key, member)))
        return F.filter(bags, lambda bag: bag["copies"] > 0)


class Disjoint(Draw):
    """Each row is in exactly one bag, as in the article."""

    bagging = "disjoint"
    meaning = "each row in exactly one bag"

    def copies(self, key: Column, member: Column) -> Column:
        return (_one_of(key, self.num_members, self.seed) == member).cast("int")

    @property
    def in_bag_share(self) -> float:
        return 1 / self.num_members

    @property
    def in_any_share(self) -> float:
        return 1.0

    @property
    def leaves_rows_out(self) -> bool:
        return self.num_members > 1

    def _drawn(self, key: Column) -> Column:
        return F.array(_bag(_one_of(key, self.num_members, self.seed), F.lit(1)))


class Subsample(Draw):
    """Each row is in each bag with probability `rate`, without replacement."""

    bagging = "subsample"
    meaning = "each row in each bag with probability subsamplingRate"
    largest_rate = 1.0

    def copies(self, key: Column, member: Column) -> Column:
        return (_uniform(key, F.lit(self.seed), member) < self.rate).cast("int")

    @property
    def in_bag_share(self) -> float:
        return self.rate

    @property
    def leaves_rows_out(self) -> bool:
        return self.rate < 1


class Bootstrap(Draw):
    """Each row is in each bag Poisson(`rate`) times: sampling with replacement that needs no count of the rows."""

    bagging = "bootstrap"
    meaning = "each row in each bag Poisson(subsamplingRate) times (sampling with replacement)"
    largest_rate = 100.0

    def copies(self, key: Column, member: Column) -> Column:
        bounds = F.array(*[F.lit(bound) for bound in _poisson_cdf(self.rate)])
        uniform = _uniform(key, F.lit(self.seed), member)
        return F.size(F.filter(bounds, lambda bound: bound <= uniform))

    @property
    def in_bag_share(self) -> float:
        return 1 - math.exp(-self.rate)


STRATEGIES: dict[str, type[Draw]] = {draw.bagging: draw for draw in (Disjoint, Subsample, Bootstrap)}


def draw_of(bagging: str, rate: float, num_members: int, seed: int) -> Draw:
    """The draw of a bagging strategy by its name, a key of `STRATEGIES`."""
    return STRATEGIES[bagging](rate, num_members, seed)


def _bag(member: Column, copies: Column) -> Column:
    return F.struct(member.alias("member"), copies.alias("copies"))


def _uniform(*hashed: Column) -> Column:
    # 53 bits of the hash make a double in [0, 1).
    return F.shiftrightunsigned(F.xxhash64(*hashed), 11) * F.lit(2.0**-53)


def _one_of(key: Column, num_members: int, seed: int) -> Column:
    return F.pmod(F.xxhash64(key, F.lit(seed)), F.lit(num_members)).cast("int")


def _poisson_cdf(rate: float) -> list[float]:
    """P(copies <= k) for k = 0, 1, ... until doubles cannot distinguish it from 1."""
    mass = total = math.exp(-rate)
    cdf = [total]
    while total < 1 - 2.0**-50 and len(cdf) < 40 * (1 + rate):
        mass *= rate / len(cdf)
        total += mass
        cdf.append(total)
    return cdf
