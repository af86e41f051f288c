"""Averages, probability, pie charts and two-way tables."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from random import Random

from pipeline.sample.construct import Item, construct, degrees, either, math

EQUALLY_LIKELY = "Believes that all outcomes are equally likely, whatever their numbers or past results"
ODDS = "Compares favourable outcomes with unfavourable ones instead of with all outcomes"

SLICES = [
    (part, total)
    for total in (20, 24, 30, 36, 40, 45, 60, 72, 80, 90, 120)
    for part in range(3, total // 2)
    if 360 * part % total == 100 * part % total == 360 % part == 0 and part != 4 and total not in (4 * part, 5 * part)
]


def table(rows: Sequence[Sequence[object]]) -> str:
    """A ruled LaTeX table."""
    columns = "l|" + "c|" * (len(rows[0]) - 1)
    lines = "".join(" & ".join(map(str, row)) + r" \\ \hline " for row in rows)
    return rf"\begin{{tabular}}{{|{columns}}} \hline {lines}\end{{tabular}}"


@construct("Averages and Range", "Find the median of an even number of unordered values")
def median_of_list(rng: Random) -> Item:
    while True:
        values = rng.sample(range(2, 30), 5)
        mode = rng.choice(values)
        values.insert(rng.randrange(6), mode)
        lower, upper = sorted(values)[2:4]
        right, unsorted = Decimal(lower + upper) / 2, Decimal(values[2] + values[3]) / 2
        mean, spread = Decimal(sum(values)) / 6, max(values) - min(values)
        if sum(values) % 3 == 0 and len({right, unsorted, mean, spread, mode, lower}) == 6:
            break
    who = rng.choice(("Six friends score these points in a game", "These are the ages, in years, of six cousins"))
    return Item(
        question=rf"{who}: \( {', '.join(map(str, values))} \). What is the median?",
        right=right,
        wrong={
            "Finds the middle of the values as listed without putting them in order": unsorted,
            "Gives the lower of the two middle values as the median of an even number of values": lower,
            "Gives the mean when asked for the median": mean,
            "Gives the mode when asked for the median": mode,
            "Gives the range when asked for the median": spread,
        },
        slips=(right + 1, right + 2, right + 4),
    )


@construct("Averages and Range", "Find the mean from a frequency table")
def mean_from_table(rng: Random) -> Item:
    thing, owners = rng.choice((("goals", "matches"), ("books", "pupils"), ("pets", "families"), ("letters", "days")))
    first = rng.choice((0, 1))
    values = range(first, first + 5)
    while True:
        counts = rng.sample(range(1, 10), 5)
        total = sum(value * count for value, count in zip(values, counts, strict=True))
        right, by_rows, tallest = Decimal(total) / sum(counts), Decimal(total) / 5, values[counts.index(max(counts))]
        if sum(counts) in (20, 25) and len({right, by_rows, values[2], sum(counts) // 5, tallest}) == 5:
            break
    return Item(
        question=f"{table([[thing.capitalize(), f'Number of {owners}'], *zip(values, counts, strict=True)])}\n\n"
        f"The table shows the number of {thing} for each of {sum(counts)} {owners}. What is the mean number of {thing}?",
        right=right,
        wrong={
            "Divides the total by the number of rows of a frequency table": by_rows,
            "Averages the values in a frequency table without regard to their frequencies": values[2],
            "Averages the frequencies instead of the values they count": sum(counts) // 5,
            "Gives the value with the highest frequency as the mean": tallest,
            "Finds the total of all the values but forgets to divide to get the mean": total,
        },
        slips=(right + 1, right + Decimal("0.2"), right + Decimal("0.5")),
    )


@construct("Averages and Range", "Find a missing value when the mean is known")
def missing_value(rng: Random) -> Item:
    pairs, centre, rise = rng.choice((1, 2)), rng.randint(9, 25), rng.randint(1, 4)
    known = [centre + sign * step for step in rng.sample(range(1, 8), pairs) for sign in (-1, 1)]
    rng.shuffle(known)
    count, mean = len(known) + 1, centre + rise
    right = count * mean - sum(known)
    shown = math(", ".join(map(str, known)))
    return Item(
        question=either(
            rng,
            f"One number is missing from this list: {shown}. With it, the mean of the {count} numbers is"
            f" {math(str(mean))}. What is the missing number?",
            f"In {count} tests Priya has a mean mark of {math(str(mean))}. Her marks in the first {count - 1} tests are"
            f" {shown}. What is her mark in the last test?",
        ),
        right=right,
        wrong={
            "Believes that a missing value must be equal to the mean": mean,
            "Multiplies the mean by the number of known values only": (count - 1) * mean - sum(known),
            "Gives the total of all the values when asked for the missing one": count * mean,
            "Gives the mean of the known values as the missing value": centre,
            "Places the mean halfway between the mean of the known values and the missing value": 2 * mean - centre,
        },
        slips=(right + 1, right + 2, right + 10),
    )


@construct("Probability", "Find the probability that an event does not happen from a two-way table")
def not_from_table(rng: Random) -> Item:
    walking, other = rng.randint(11, 20), [rng.randint(2, 5), rng.randint(2, 5)]
    second = [rng.randint(5, 9), rng.randint(6, 15), rng.randint(6, 15)]
    year, rest = rng.choice((("Year 7", "Year 8"), ("Year 9", "Year 10"), ("Class A", "Class B")))
    group, everyone, walkers = walking + sum(other), walking + sum(other) + sum(second), walking + second[0]
    right = Fraction(sum(other), group)
    rows: list[list[object]] = [["", "Walk", "Bus", "Car"], [year, walking, *other], [rest, *second]]
    return Item(
        question=f"{table(rows)}\n\nThe table shows how some pupils travel to school. A pupil is chosen at random from {year}."
        " What is the probability that this pupil does not walk to school?",
        right=right,
        wrong={
            "Gives the probability that an event happens when asked that it does not": Fraction(walking, group),
            ODDS: Fraction(sum(other), walking),
            "Divides by the total of a whole table although the choice is made from one group": Fraction(sum(other), everyone),
            "Ignores that the choice is made from one group and uses the totals of everyone": Fraction(
                everyone - walkers, everyone
            ),
            "Confuses the group that is chosen from with the outcome that is asked for": Fraction(
                sum(other), everyone - walkers
            ),
        },
        slips=(Fraction(sum(other) + 1, group), Fraction(sum(other), group + 1), Fraction(other[0], group)),
    )


@construct("Probability", "Find the probability of two independent events both happening")
def both_events(rng: Random) -> Item:
    red, blue = rng.sample(range(2, 7), 2)
    total = rng.randint(max(2 * red, 2 * blue, red + blue + 2), 20)
    bag = rng.choice((f"A bag holds {total} counters", f"There are {total} beads in a box"))
    return Item(
        question=f"{bag}: {red} are red, {blue} are blue and the rest are green. Amir takes one at random, puts it back and"
        " takes one again. What is the probability that the first is red and the second is blue?",
        right=Fraction(red * blue, total**2),
        wrong={
            "Adds the probabilities of two events that must both happen": Fraction(red + blue, total),
            "Reduces the total for a second choice although the first item was put back": Fraction(
                red * blue, total * (total - 1)
            ),
            "Adds the numerators and adds the denominators of two probabilities": Fraction(red + blue, 2 * total),
            EQUALLY_LIKELY: Fraction(1, 9),
            ODDS: Fraction(red, total - red) * Fraction(blue, total - blue),
        },
        slips=(Fraction(red * blue + 1, total**2), Fraction(red * blue, total * (total + 1)), Fraction(red, total**2)),
    )


@construct("Charts and Tables", "Find the angle of a sector of a pie chart")
def pie_angle(rng: Random) -> Item:
    part, total = rng.choice(SLICES)
    drinks, sports = ("tea", "coffee", "juice", "water"), ("football", "tennis", "rugby", "hockey", "netball")
    kinds = rng.choice((drinks, sports))
    chosen = rng.choice(kinds)
    ask = rng.choice(("what is the angle of the sector for", "how many degrees are in the sector for"))
    return Item(
        question=f"In a survey, {total} people each choose one from {', '.join(kinds[:-1])} and {kinds[-1]}."
        f" A pie chart is drawn of the results. If {part} of the people choose {chosen}, {ask} {chosen}?",
        right=degrees(360 * part // total),
        wrong={
            "Uses the frequency itself as the angle of a sector in a pie chart": degrees(part),
            "Gives the percentage of the whole as the angle of a sector in a pie chart": degrees(100 * part // total),
            "Believes that a full turn is 180 degrees": degrees(180 * part // total),
            "Divides 360 by the frequency to find the angle of a sector": degrees(360 // part),
            "Shares the full turn equally among the categories of a pie chart": degrees(360 // len(kinds)),
        },
        slips=(degrees(360 * part // total + 2), degrees(360 * part // total - 5), degrees(360 * part // total + 10)),
    )


@construct("Probability", "Estimate an expected frequency from the results of an experiment")
def expected_frequency(rng: Random) -> Item:
    sections, spins, times = rng.choice((4, 5)), rng.randrange(20, 101, 20), rng.randint(2, 6)
    hits = rng.choice([count for count in range(3, spins // 2) if count * sections != spins])
    more, colour = spins * times, rng.choice(("red", "blue", "yellow"))
    return Item(
        question=f"A spinner has {sections} equal sections, each of a different colour, but it may be biased."
        f" In {spins} spins it lands on {colour} {hits} times. Use this result to estimate how many times it lands on {colour}"
        f" in {more} further spins.",
        right=hits * times,
        wrong={
            EQUALLY_LIKELY: more // sections,
            "Believes that an event which may or may not happen has a probability of one half": more // 2,
            "Believes that the frequency of an outcome stays the same however many trials there are": hits,
            "Adds the increase in trials to a frequency instead of scaling it in proportion": hits + more - spins,
            "Believes that later results must balance earlier ones until all are even": (spins + more) // sections - hits,
        },
        slips=(hits * times + 1, hits * times - 2, hits * times + 5),
    )
