"""Fractions, percentages, ratio, proportion and rates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from itertools import permutations
from math import gcd, lcm
from random import Random

from pipeline.sample.construct import Item, construct, either, frac, math, tex

HUNDRED_MINUTES = "Believes that there are 100 minutes in an hour"
PERCENT_AS_UNITS = "Treats a percentage change as a change by that number of units"
RATIO_ORDER = "Does not keep the parts of a ratio in the order in which they are named"
SAME_ADDED = "Adds the same number to the numerator and the denominator to make an equivalent fraction"

GOODS = ("bicycle", "guitar", "laptop", "sofa")
WORK_OUT = ("Calculate", "Find the value of", "Work out")
NAMES = ("Amira", "Ben", "Chloe", "Dev", "Ewan", "Farah", "Grace", "Hassan")


def lowest(denominator: int) -> list[int]:
    """The numerators that make a proper fraction in its lowest terms."""
    return [n for n in range(1, denominator) if gcd(n, denominator) == 1]


def listed(fractions: Iterable[Fraction]) -> str:
    """Fractions in a row, delimiters included."""
    return math(r",\ ".join(map(tex, fractions)))


def mixed(value: Fraction) -> str:
    """A number above 1 as a mixed number, delimiters included."""
    whole, part = divmod(value, 1)
    return math(str(whole) + (" " + tex(part) if part else ""))


def ratio(first: int, second: int) -> str:
    """A ratio in its simplest form, delimiters included."""
    common = gcd(first, second)
    return math(f"{first // common} : {second // common}")


@construct("Fractions", "Add two proper fractions with different denominators")
def add_fractions(rng: Random) -> Item:
    b, d = rng.sample((3, 4, 5, 7, 11), 2)
    a, c = rng.choice(lowest(b)), rng.choice(lowest(d))
    return Item(
        question=rf"{rng.choice(WORK_OUT)} \( {frac(a, b)} + {frac(c, d)} \). Give your answer in its simplest form.",
        right=Fraction(a, b) + Fraction(c, d),
        wrong={
            "Adds the numerators and adds the denominators when adding fractions": Fraction(a + c, b + d),
            "Writes fractions over a common denominator without changing the numerators": Fraction(a + c, b * d),
            "Adds the numerators of unlike fractions and keeps the larger denominator": Fraction(a + c, max(b, d)),
            "Multiplies the numerators and the denominators when asked to add fractions": Fraction(a * c, b * d),
            SAME_ADDED: Fraction(a + c + 2 * b * d - b - d, b * d),
        },
        slips=(Fraction(a * d + c * b + 1, b * d), Fraction(a * d + c * b + 2, b * d)),
    )


@construct("Fractions", "Subtract mixed numbers where a whole must be exchanged")
def subtract_mixed_numbers(rng: Random) -> Item:
    d = rng.choice((7, 8, 9, 11, 12))
    a, c = sorted(rng.sample(lowest(d), 2))
    small, wholes = rng.randint(1, 5), rng.randint(3, 6)
    first, second = small + wholes + Fraction(a, d), small + Fraction(c, d)
    right = first - second
    return Item(
        question=either(
            rng,
            f"What is {mixed(first)} take away {mixed(second)}?",
            f"A ribbon is {mixed(first)} m long. A piece {mixed(second)} m long is cut off. How many metres are left?",
        ),
        right=mixed(right),
        wrong={
            "Subtracts the smaller fraction part from the larger, whichever comes first": mixed(wholes + Fraction(c - a, d)),
            "Forgets to reduce the whole number by one after exchanging a whole for fraction parts": mixed(right + 1),
            "Exchanges a whole for ten fraction parts, whatever the denominator": mixed(wholes - 1 + Fraction(10 + a - c, d)),
            "Keeps the first fraction part unchanged when the second is too big to subtract": mixed(wholes + Fraction(a, d)),
        },
        slips=(mixed(right - 1), mixed(right + 2)),
    )


@construct("Fractions", "Divide a fraction by a fraction")
def divide_fractions(rng: Random) -> Item:
    c = rng.randint(2, 4)
    a = c * rng.randint(2, 3)
    b = rng.choice([n for n in range(a + 1, a + 8) if gcd(a, n) == 1])
    d = rng.choice([n for n in range(c + 1, c + 8) if gcd(c, n) == 1])
    return Item(
        question=rf"{rng.choice(WORK_OUT)} \( {frac(a, b)} \div {frac(c, d)} \).",
        right=Fraction(a * d, b * c),
        wrong={
            "Turns the first fraction upside down instead of the second when dividing fractions": Fraction(b * c, a * d),
            "Turns both fractions upside down before multiplying when dividing fractions": Fraction(b * d, a * c),
            "Changes a division of fractions to a multiplication without using the reciprocal": Fraction(a * c, b * d),
            "Divides the numerators but multiplies the denominators when dividing fractions": Fraction(a // c, b * d),
        },
        slips=(Fraction(a * d + 1, b * c), Fraction(a * d, b + c)),
    )


@construct("Fractions", "Order fractions with different numerators and denominators")
def order_fractions(rng: Random) -> Item:
    faulty: dict[str, Callable[[Fraction], int | Fraction]] = {
        "Believes that a larger denominator always makes a larger fraction": lambda f: f.denominator,
        "Believes that a larger denominator always makes a smaller fraction": lambda f: -f.denominator,
        "Orders fractions by their numerators and ignores the denominators": lambda f: f.numerator,
        "Orders fractions by how many parts each is short of one whole": lambda f: f.numerator - f.denominator,
        "Orders from largest to smallest when asked to put the smallest first": lambda f: -f,
    }
    orders: list[str] = []
    while len(set(orders)) < len(faulty) + 2:
        drawn = [Fraction(rng.choice(lowest(d)), d) for d in rng.sample(range(3, 13), 4)]
        if all(len({key(f) for f in drawn}) == len(drawn) for key in faulty.values()):
            orders = [listed(sorted(drawn)), *(listed(sorted(drawn, key=key)) for key in faulty.values()), listed(drawn)]
    return Item(
        question=f"Write these fractions in order of size, smallest first: {listed(drawn)}",
        right=orders[0],
        wrong=dict(zip(faulty, orders[1:], strict=False)),
        slips=rng.sample([order for order in map(listed, permutations(drawn)) if order not in orders], 2),
    )


@construct("Percentages", "Write a fraction as a percentage")
def fraction_to_percentage(rng: Random) -> Item:
    d = rng.choice((5, 8, 20, 25, 40, 50))
    n = rng.randint(2, d - 1)
    return Item(
        question=either(
            rng,
            rf"Write \( {frac(n, d)} \) as a percentage.",
            rf"{rng.choice(NAMES)} scores \( {n} \) marks out of \( {d} \) in a test. What percentage is this?",
        ),
        right=Decimal(100 * n) / d,
        wrong={
            "Believes that the numerator of a fraction is its percentage": n,
            "Reads the fraction bar as a decimal point when writing a fraction as a percentage": Decimal(f"{n}.{d}"),
            SAME_ADDED: n + 100 - d,
            "Divides 100 by the denominator but does not multiply by the numerator": Decimal(100) / d,
            "Multiplies a decimal by ten instead of a hundred to write it as a percentage": Decimal(10 * n) / d,
        },
        slips=(Decimal(100 * n) / d + 1, Decimal(100 * n) / d - 2),
        unit=r"\%",
    )


@construct("Percentages", "Decrease an amount by a percentage")
def decrease_by_percentage(rng: Random) -> Item:
    percent = rng.choice((5, 15, 20, 25, 30, 40))
    price = lcm(percent, 100 // gcd(percent, 100)) * rng.randint(6, 15)
    off = price * percent // 100
    return Item(
        question=rf"A {rng.choice(GOODS)} costing \( £ {price} \) is reduced by \( {percent} \% \). How many pounds is it now?",
        right=price - off,
        wrong={
            PERCENT_AS_UNITS: price - percent,
            "Finds the percentage of an amount but does not subtract it from the amount": off,
            "Adds the percentage of an amount instead of subtracting it for a decrease": price + off,
            "Divides by the number in front of the percentage sign to find the percentage": price - price // percent,
        },
        slips=(price - off - 10, price - off + 1),
    )


@construct("Percentages", "Find the original amount before a percentage decrease")
def reverse_percentage(rng: Random) -> Item:
    percent, step = rng.choice(((10, 100), (20, 25), (25, 16), (40, 50)))
    original, goods = step * rng.randint(5, 14), rng.choice(GOODS)
    final = original * (100 - percent) // 100
    return Item(
        question=either(
            rng,
            rf"In a sale, the price of a {goods} is reduced by \( {percent} \% \). The sale price is \( £ {final} \).",
            f"![A sale sign: {percent}% off everything]() A {goods} costs " rf"\( £ {final} \) in this sale.",
        )
        + f" How many pounds did the {goods} cost before the sale?",
        right=original,
        wrong={
            "Adds the percentage of the final amount to undo a percentage decrease": final * (100 + percent) // 100,
            PERCENT_AS_UNITS: final + percent,
            "Believes that the final amount is the percentage taken off, not the percentage left": final * 100 // percent,
            "Applies a percentage decrease a second time instead of undoing it": final * (100 - percent) // 100,
        },
        slips=(original + step, original - step),
    )


@construct("Ratio", "Share an amount in a given ratio")
def share_in_ratio(rng: Random) -> Item:
    a, b = rng.choice(((2, 3), (2, 5), (2, 7), (3, 4), (3, 5), (3, 7), (4, 5)))
    total = lcm(a + b, a, b) * rng.randint(1, 5)
    one, other = rng.sample(NAMES, 2)
    (x, p), (y, q) = rng.sample(((one, a), (other, b)), 2)
    share = total * a // (a + b)
    return Item(
        question=rf"{x} and {y} share \( £ {total} \) in the ratio \( {p} : {q} \). How many pounds does {one} get?",
        right=share,
        wrong={
            "Takes the two parts of a ratio as the numerator and denominator of a share": total * a // b,
            RATIO_ORDER: total - share,
            "Finds the value of one part of a ratio but does not multiply by the number of parts": total // (a + b),
            "Divides the amount by one part of the ratio instead of by the total number of parts": total // a,
        },
        slips=(share + a, share - a),
    )


@construct("Ratio", "Simplify a ratio of two times in different units")
def simplify_ratio_with_units(rng: Random) -> Item:
    minutes = rng.choice((12, 16, 18, 20, 24, 28, 30, 32, 36, 40, 42, 48, 50, 54))
    hours = rng.randint(2, 5)
    return Item(
        question=either(
            rng,
            rf"Write the ratio \( {minutes} \) minutes : \( {hours} \) hours in its simplest form.",
            rf"{rng.choice(NAMES)} spends \( {minutes} \) minutes on homework and \( {hours} \) hours on sport. "
            "What is the ratio of the time on homework to the time on sport, in its simplest form?",
        ),
        right=ratio(minutes, 60 * hours),
        wrong={
            "Ignores the different units of the quantities when simplifying a ratio": ratio(minutes, hours),
            HUNDRED_MINUTES: ratio(minutes, 100 * hours),
            RATIO_ORDER: ratio(60 * hours, minutes),
            "Stops dividing by common factors before a ratio is in its simplest form": math(f"{minutes // 2} : {30 * hours}"),
            "Compares a part with the whole when asked for its ratio to the other part": ratio(minutes, minutes + 60 * hours),
        },
        slips=(ratio(minutes, 60 * hours + 60), ratio(minutes, 60 * hours - 60)),
    )


@construct("Proportion", "Scale a recipe in direct proportion")
def direct_proportion(rng: Random) -> Item:
    people, each = rng.choice((4, 6, 8)), rng.choice((15, 20, 25, 30, 40, 50))
    times, extra = rng.randint(2, 3), rng.randint(1, people - 1)
    amount, guests = people * each, people * times + extra
    food = rng.choice(("flour", "pasta", "rice"))
    return Item(
        question=either(
            rng,
            rf"A recipe for \( {people} \) people uses \( {amount} \mathrm{{~g}} \) of {food}. "
            rf"How much {food} is needed for \( {guests} \) people?",
            rf"The amount of {food} is in direct proportion to the number of people. What is the missing amount? "
            rf"\begin{{tabular}}{{|c|c|}} \hline people & {food} (g) \\ \hline \( {people} \) & \( {amount} \) \\ "
            rf"\hline \( {guests} \) & ? \\ \hline \end{{tabular}}",
        ),
        right=each * guests,
        wrong={
            "Adds the same number to both quantities in a direct proportion": amount + guests - people,
            "Finds the amount for one but does not scale it up to the number required": each,
            "Multiplies the given amount by the new number without dividing by the old one": amount * guests,
            "Scales up by a whole number and then adds the remainder to the amount": amount * times + extra,
            "Scales up by a whole number only and ignores the remainder": amount * times,
        },
        slips=(each * guests + 10, each * guests + each),
        unit="g",
    )


@construct("Proportion", "Solve a problem in inverse proportion")
def inverse_proportion(rng: Random) -> Item:
    before, after = sorted(rng.sample((2, 3, 4, 5, 6, 8), 2))
    time = lcm(before, after) * rng.randint(2, 4)
    job = rng.choice(("identical machines pack an order", "identical pumps empty a tank", "identical taps fill a pool"))
    return Item(
        question=rf"\( {before} \) {job} in \( {time} \) minutes. How many minutes would \( {after} \) of them take?",
        right=time * before // after,
        wrong={
            "Uses direct proportion where the quantities are in inverse proportion": time * after // before,
            "Believes that in inverse proportion adding one to a quantity takes one from the other": time - after + before,
            "Finds the time for one alone but does not share it among the new number": time * before,
            "Divides the given time by the new number and ignores the original number": time // after,
        },
        slips=(time * before // after + 2, time * before // after - 1),
    )


@construct("Proportion", "Find a distance from a speed and a time in hours and minutes")
def distance_from_speed(rng: Random) -> Item:
    hours, minutes = rng.randint(1, 3), rng.choice((15, 30, 45))
    time = hours + Fraction(minutes, 60)
    speed = rng.choice([s for s in range(30, 111) if s % (time.numerator * time.denominator) == 0])
    return Item(
        question=rf"A {rng.choice(('car', 'coach', 'train'))} travels for \( {hours} \) h \( {minutes} \) min "
        rf"at an average speed of \( {speed} \mathrm{{~km/h}} \). How far does it travel?",
        right=speed * time,
        wrong={
            HUNDRED_MINUTES: speed * (hours + Decimal(minutes) / 100),
            "Divides the speed by the time to find a distance": speed / time,
            "Multiplies the speed by the whole hours only and ignores the minutes": speed * hours,
            "Multiplies a speed in kilometres per hour by a time in minutes": speed * (60 * hours + minutes),
            "Believes that each minute of a journey adds one kilometre to it": speed * hours + minutes if speed != 60 else None,
        },
        slips=(speed * time + 7, speed * time - 17),
        unit="km",
    )
