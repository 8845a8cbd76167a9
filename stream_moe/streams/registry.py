"""The registry of named data sets: what each of them is, and who has it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

DATA_VARIABLE = "STREAM_MOE_DATA"
SUFFIXES = (".csv.xz", ".csv.gz", ".csv", ".arff", ".arff.gz", ".parquet", ".npz")
NOMINAL = ("carrier", "origin", "dest", "day_of_week", "Airline", "AirportFrom", "AirportTo", "DayOfWeek")


@dataclass(frozen=True, slots=True)
class DataSet:
    """A named data set.

    Attributes
    ----------
    sha256
        Of the bytes of x float32 [n, d] followed by those of y int32 [n], whatever file they came in; None where no
        copy was at hand to take it from, and then the shape is all that is checked.
    loader
        Who can get it: "river" or "sklearn"; "package" = it ships with this package; None = only its user.
    key
        What the loader calls it; for "package" the columns to leave out.
    source
        Where it comes from.
    """

    name: str
    events: int
    features: int
    classes: int
    licence: str
    source: str
    loader: Literal["package", "river", "sklearn"] | None = None
    key: tuple[str, ...] = ()
    sha256: str | None = None


_ELEC = "Harries, SPLICE-2, 1999: electricity prices of New South Wales, as normalised for MOA"
_USPDS = "Souza et al., Challenges in Benchmarking Stream Learning Algorithms, 2020 (USP DS repository)"
_KDD = "KDD Cup 1999, one service, as prepared by river"


def _insects(variant: str, events: int) -> DataSet:
    return DataSet(f"insects_{variant}", events, 33, 6, "none stated", _USPDS, "river", ("Insects", variant))


DATA_SETS = {
    data_set.name: data_set
    for data_set in (
        DataSet("electricity", 45_312, 6, 2, "none stated", _ELEC, "package", ("date", "day"),
                "9bfe6a53cf4f333cd2e13eaefd732fc2ac8cbcd882d9b7ea83386775b1761931"),
        DataSet("electricity8", 45_312, 8, 2, "none stated", _ELEC, "package", (),
                "3e087fcd98825d0e93da1fd55ea82f5ff61db3c1fb7e935b4ba9efc3284d3037"),
        DataSet("covtype", 581_012, 54, 7, "CC BY 4.0", "UCI Covertype, in its order, raw values", "sklearn",
                ("covtype",), "33a51c806646989a50269a6222c10ddce7efcef7e1402d68c6cb4b86377575a9"),
        DataSet("airlines", 539_383, 7, 2, "none stated", "MOA's airlines.arff; OpenML data set 1169", "sklearn",
                ("openml", "1169")),
        DataSet("flights", 327_346, 7, 2, "CC0",
                "nycflights13 (CRAN): flights out of New York in 2013 by scheduled departure; not Airlines",
                sha256="616528f26b602f4a02e15c71f281cb97513982aeae1245e50c1010e736f4cf50"),
        DataSet("weather", 18_159, 8, 2, "US government work",
                "NOAA, daily weather of Bellevue 1949-1999; Elwell and Polikar, 2011",
                sha256="3052dca4c1a5e12cc4d8a9c494bf6419be221fb42115e2b4be24d6fbbe28d8e4"),
        DataSet("powersupply", 29_928, 2, 24, "none stated",
                "Zhu, Stream Data Mining Repository, 2010: power supply of an Italian utility by hour",
                sha256="98251acc8b2e4cb29c4b3f400f23235df3261e5d83eb50635dffba480a994e30"),
        _insects("abrupt_balanced", 52_848),
        _insects("abrupt_imbalanced", 355_275),
        _insects("gradual_balanced", 24_150),
        _insects("gradual_imbalanced", 143_323),
        _insects("incremental_balanced", 57_018),
        _insects("incremental_abrupt_balanced", 79_986),
        _insects("incremental_reoccurring_balanced", 79_986),
        DataSet("keystroke", 20_400, 31, 51, "none stated", "Killourhy and Maxion, DSN 2009 (CMU)", "river",
                ("Keystroke",)),
        DataSet("creditcard", 284_807, 30, 2, "DbCL 1.0", "Dal Pozzolo et al., 2015 (ULB, by way of Kaggle)", "river",
                ("CreditCard",)),
        DataSet("http", 567_498, 3, 2, "CC BY 4.0", _KDD, "river", ("HTTP",)),
        DataSet("smtp", 95_156, 3, 2, "CC BY 4.0", _KDD, "river", ("SMTP",)),
        DataSet("phishing", 1_250, 9, 2, "CC BY 4.0", "UCI Website Phishing, part of river", "river", ("Phishing",),
                "5c2773ca1a7c7acbea3bb1cbfefe20f54e587db1ec6772b7f121d853a762d7cb"),
        DataSet("bananas", 5_300, 2, 2, "none stated", "OpenML data set 1460, part of river", "river", ("Bananas",),
                "3ebfcf2d51c09150dca8f9cdedfbf5243910da4af9a4054ae241f5a89da17d48"),
        DataSet("segments", 2_310, 18, 7, "CC BY 4.0", "UCI Image Segmentation, part of river", "river",
                ("ImageSegments",),
                "f286aeb9a8116f75b7d0ebe7308b978c830578cf375a2a23189459c7fa147b17"),
    )
}  # fmt: skip
IN_RIVER = frozenset(["Phishing", "Bananas", "ImageSegments"])  # data that is part of river's own package


def by_hand(data_set: DataSet) -> str:
    """Say how a user makes a data set known."""
    folder = os.environ.get(DATA_VARIABLE)
    where = f"in {DATA_VARIABLE}={folder}" if folder else f"in a directory that {DATA_VARIABLE} names"
    return f"put {data_set.name}.csv.xz (or {', '.join(SUFFIXES[1:])}) {where}; it is {data_set.source}"
