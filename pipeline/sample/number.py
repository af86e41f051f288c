"""Whole numbers, negatives and decimals."""

from __future__ import annotations

from decimal import Decimal
from random import Random

from pipeline.sample.construct import Item, construct, either, math, tex
from pipeline.sample.proportion import HUNDRED_MINUTES

ADDS_BEFORE_MULTIPLYING = "Carries out addition and subtraction before multiplication"
SMALLER_FROM_LARGER = "Subtracts the smaller number from the larger in each column, whichever is on top"
NEXT_COLUMN_NOT_REDUCED = "Exchanges to make a subtraction possible but forgets to reduce the next column"


@construct("BIDMAS", "Use the order of operations with addition, subtraction and multiplication")
def mixed_operations(rng: Random) -> Item:
    a, b, d = rng.randint(2, 9), rng.randint(2, 9), rng.randint(2, 5)
    c = d + rng.randint(2, 5)
    right, sums_first = a + b * c - d, (a + b) * (c - d)
    calculation = rf"\( {a} + {b} \times {c} - {d} \)"
    return Item(
        question=rng.choice((f"What is the value of {calculation}?", f"Work out {calculation}")),
        right=right,
        wrong={
            "Works from left to right and ignores the priority of multiplication over addition": (a + b) * c - d,
            "Works through a calculation from right to left": a + b * (c - d),
            ADDS_BEFORE_MULTIPLYING: sums_first if sums_first != right else None,
            "Confuses the multiplication sign with the addition sign": a + b + c - d,
            "Carries out only the operation of highest priority and ignores the others": b * c if a != d else None,
        },
        slips=(right + c, a * b * c - d),
    )


@construct("BIDMAS", "Use the order of operations with brackets and powers")
def square_of_a_bracket(rng: Random) -> Item:
    k, b, c = rng.randint(2, 6), rng.randint(2, 6), rng.randint(2, 6)
    calculation = rf"\( {k} \times ({b} + {c})^{{2}} \)"
    return Item(
        question=rng.choice((f"Calculate {calculation}", f"What is the value of {calculation}?")),
        right=k * (b + c) ** 2,
        wrong={
            "Multiplies before applying the power, so that the multiplier is squared too": (k * (b + c)) ** 2,
            "Believes that a bracket is squared by squaring each number inside it": k * (b**2 + c**2),
            "Applies the power only to the number next to the closing bracket": k * (b + c**2),
            "Multiplies by the index instead of using it as a power": k * (b + c) * 2,
            "Ignores brackets and follows the priority of the remaining operations": k * b + c**2,
        },
        slips=(k * (b + c) ** 2 + k, (b + c) ** 2 + k),
    )


@construct("Negative Numbers", "Subtract a negative number from a negative number")
def subtract_a_negative(rng: Random) -> Item:
    a, b = rng.sample(range(3, 20), 2)
    calculation = rf"\( -{a} - (-{b}) \)"
    name = rng.choice(("Amir", "Beth", "Carys", "Dev"))
    return Item(
        question=rng.choice((f"What is {calculation}?", f"{name} works out {calculation}. What should the answer be?")),
        right=b - a,
        wrong={
            "Believes that two minus signs anywhere in a calculation make every number positive": a + b,
            "Thinks subtracting a negative number is the same as subtracting a positive one": -a - b,
            "Ignores the negative signs and subtracts the numbers as if both were positive": a - b,
            "Counts the starting number as the first step when moving up a number line": b - a - 1,
        },
        slips=(b - a + 1, b - a + 3),
    )


@construct("Negative Numbers", "Multiply negative numbers and add a negative number to the result")
def multiply_then_add_negatives(rng: Random) -> Item:
    a, b, c = rng.randint(3, 9), rng.randint(3, 9), rng.randint(2, 7)
    calculation = rf"\( (-{a}) \times (-{b}) + (-{c}) \)"
    return Item(
        question=rng.choice((f"Calculate {calculation}", f"What is the value of {calculation}?")),
        right=a * b - c,
        wrong={
            "Believes that the product of two negative numbers is negative": -a * b - c,
            "Thinks adding a negative number is the same as adding a positive one": a * b + c,
            "Believes that the sum of a positive and a negative number is always negative": c - a * b,
            ADDS_BEFORE_MULTIPLYING: a * (b + c),
        },
        slips=(a * b - c + 1, a * b - c - 2),
    )


@construct("Place Value of Decimals", "Find the largest of several decimals with different numbers of decimal places")
def largest_decimal(rng: Random) -> Item:
    tenths = rng.randint(5, 8)
    ordinary = f"0.{rng.randint(1, 3)}{rng.randint(1, 9)}"
    numbers = [
        ordinary,
        f"0.{tenths}{rng.randint(1, 9)}",
        f"0.{rng.randint(41, 10 * tenths - 1)}{rng.randint(1, 9)}",
        f"0.{rng.randint(2, tenths - 1)}",
        f"0.0{rng.randint(10, 39)}{rng.randint(1, 9)}",
        f"0.0{rng.randint(tenths + 1, 9)}",
    ]
    rng.shuffle(numbers)
    row = " & ".join(numbers)
    table = rf"\begin{{tabular}}{{|c|c|c|c|c|c|}} \hline A & B & C & D & E & F \\ \hline {row} \\ \hline \end{{tabular}}"
    return Item(
        question=either(
            rng,
            f"Which of these numbers is the largest? {', '.join(math(number) for number in numbers)}",
            f"The table shows the masses of six seeds in grams. What is the largest mass, in grams? {table}",
        ),
        right=max(map(Decimal, numbers)),
        wrong={
            "Believes that the decimal with the most digits is the largest": Decimal(max(numbers, key=len)),
            "Believes that the decimal with the fewest digits is the largest": Decimal(min(numbers, key=len)),
            "Compares the digits after the decimal point as if they were whole numbers": Decimal(
                max(numbers, key=lambda number: int(number[2:]))
            ),
            "Ignores a zero in the tenths column, so that hundredths are read as tenths": Decimal(
                max(numbers, key=lambda number: number[2:].lstrip("0"))
            ),
        },
        slips=(Decimal(ordinary),),
    )


@construct("Multiplying and Dividing by Powers of Ten", "Multiply a decimal by a power of ten")
def decimal_times_power_of_ten(rng: Random) -> Item:
    places, index = rng.choice(((2, 3), (2, 4), (3, 2)))
    whole, part = rng.randint(2, 9), rng.randint(1, 9) + 10 * rng.randint(10 ** (places - 2), 10 ** (places - 1) - 1)
    number, power = whole + Decimal(part).scaleb(-places), 10**index
    calculation = rf"\( {number} \times {power} \)"
    return Item(
        question=rng.choice((f"What is {calculation}?", f"Work out {calculation}")),
        right=number * power,
        wrong={
            "Writes zeros on the end of a decimal to multiply by a power of ten": math(f"{number}{'0' * index}"),
            "Moves the digits to the right when multiplying by a power of ten": number / power,
            "Thinks multiplying by any power of ten moves the digits one place only": number * 10,
            "Thinks multiplying by any power of ten just removes the decimal point": number * 10**places,
            "Multiplies only the whole-number part by a power of ten, keeping the decimal part": whole * power + number - whole,
        },
        slips=(number * power * 100, whole * power),
    )


@construct("Operations with Decimals", "Subtract decimals with different numbers of decimal places")
def subtract_decimals(rng: Random) -> Item:
    ones, tenths, hundredths = rng.randint(1, 6), rng.randint(3, 9), rng.randint(1, 9)
    whole, tenths_above = 10 * rng.randint(ones + 1, 9) + rng.randint(ones + 1, 9), rng.randint(1, tenths - 1)
    first = Decimal(10 * whole + tenths_above) / 10
    second = Decimal(100 * ones + 10 * tenths + hundredths) / 100
    right, difference = first - second, whole - ones
    return Item(
        question=either(
            rng,
            rf"Work out \( {first} - {second} \)",
            rf"A rope is \( {first} \) metres long. A piece of \( {second} \) metres is cut off. How many metres are left?",
        ),
        right=right,
        wrong={
            SMALLER_FROM_LARGER: difference + Decimal(10 * (tenths - tenths_above) + hundredths) / 100,
            NEXT_COLUMN_NOT_REDUCED: difference + Decimal(10 * (10 + tenths_above - tenths) + 10 - hundredths) / 100,
            "Writes zero in a column where the lower digit is larger than the upper one": difference,
            "Brings down a digit unchanged when there is no digit above it to subtract from": right + Decimal(hundredths) / 50,
            "Lines up the last digits instead of the decimal points": first / 10 - second,
        },
        slips=(right - Decimal("0.1"), right + 1),
    )


@construct("Operations with Decimals", "Multiply two decimals")
def multiply_decimals(rng: Random) -> Item:
    whole, tenths, factor = rng.randint(1, 9), rng.randint(4, 9), rng.randint(3, 9)
    first, second = Decimal(10 * whole + tenths) / 10, Decimal(factor) / 10
    product, column = first * second, tenths * factor
    return Item(
        question=either(
            rng,
            rf"Calculate \( {first} \times {second} \)",
            rf"What is the area of this rectangle in square metres? ![A rectangle {first} m by {second} m]()",
        ),
        right=product,
        wrong={
            "Gives a product of decimals the same number of decimal places as each factor": product * 10,
            "Ignores the decimal points and multiplies as if with whole numbers": product * 100,
            "Does not add the carried digit to the next column in a multiplication": product - Decimal(column // 10) / 10,
            "Writes both digits of a column's product instead of carrying the first": whole * factor + Decimal(column) / 100,
            "Multiplies the decimal parts but leaves the whole-number part unchanged": whole + Decimal(column) / 100,
        },
        slips=(product + Decimal("0.02"), product / 10),
    )


@construct("Rounding", "Round a decimal to a given number of significant figures")
def round_to_significant_figures(rng: Random) -> Item:
    figures = rng.choice((3, 4))
    digits = "".join(str(rng.randint(1, 8)) for _ in range(figures))
    number = Decimal(f"0.0{digits}4{rng.randint(5, 9)}")
    rounded = Decimal(f"0.0{digits}")
    return Item(
        question=either(
            rng,
            rf"Round \( {number} \) to {figures} significant figures",
            rf"What is \( {number} \) correct to {figures} significant figures?",
        ),
        right=rounded,
        wrong={
            "Confuses significant figures with decimal places": round(number, figures),
            "Counts the zeros on both sides of the decimal point as significant figures": round(number, figures - 1),
            "Rounds one digit at a time, starting from the last digit": rounded + Decimal(1).scaleb(-figures - 1),
            "Leaves out the zeros that keep the digits of a rounded number in place": rounded * 10,
        },
        slips=(rounded / 10, round(number, figures + 2)),
    )


@construct("Factors, Multiples and Primes", "Find the lowest common multiple of two numbers")
def lowest_common_multiple(rng: Random) -> Item:
    p, q = rng.choice(((2, 3), (2, 5), (2, 7), (3, 4), (3, 5), (3, 7), (4, 5), (5, 6)))
    shared = rng.choice([factor for factor in range(2, 13) if factor not in (p, p * q)])
    a, b = shared * p, shared * q
    return Item(
        question=either(
            rng,
            rf"What is the lowest common multiple of \( {a} \) and \( {b} \)?",
            rf"One light flashes every \( {a} \) seconds, another every \( {b} \) seconds. They just flashed together. "
            "After how many seconds will they next flash together?",
        ),
        right=a * q,
        wrong={
            "Believes that the lowest common multiple of two numbers is always their product": a * b,
            "Confuses the lowest common multiple with the highest common factor": shared,
            "Leaves out the shared prime factors when building the lowest common multiple": p * q,
            "Believes that the larger of two numbers is a multiple of both": b,
            "Thinks the lowest common multiple is the smallest number that divides both numbers": 1,
        },
        slips=(a * q + a, a * q - a),
    )


def standard(number: int | Decimal, index: int) -> str:
    return math(rf"{tex(number)} \times 10^{{{index}}}")


@construct("Standard Form", "Multiply two numbers in standard form")
def multiply_in_standard_form(rng: Random) -> Item:
    a, (m, n) = rng.randint(2, 7), rng.sample(range(3, 10), 2)
    b = rng.randint(-(-10 // a), 9 - a)
    leading, index = Decimal(a * b) / 10, m + n
    calculation = rf"\( ({a} \times 10^{{{m}}}) \times ({b} \times 10^{{{n}}}) \)"
    return Item(
        question=either(
            rng,
            f"Work out {calculation}. Give your answer in standard form.",
            f"What is {calculation} in standard form?",
        ),
        right=standard(leading, index + 1),
        wrong={
            "Thinks a number in standard form may start with a number greater than ten": standard(a * b, index),
            "Changes the first number to lie between 1 and 10 without changing the index": standard(leading, index),
            "Lowers the index when dividing the first number by ten to restore standard form": standard(leading, index - 1),
            "Multiplies the indices when multiplying powers of the same base": standard(leading, m * n + 1),
            "Adds the first numbers as well as the indices when multiplying in standard form": standard(a + b, index),
        },
        slips=(standard(leading, index + 2), standard(leading + Decimal("0.2"), index + 1)),
    )


def duration(hours: int, minutes: int) -> str:
    return f"{hours} hours {minutes} minutes"


@construct("Time", "Find the length of time between a morning time and an afternoon time")
def time_interval(rng: Random) -> Item:
    start, end, gap = rng.randint(7, 9), rng.randint(2, 5), rng.choice((15, 20, 25, 35, 45))
    past = rng.randrange(5, 60 - gap, 5)
    hours, minutes = end + 12 - start, 60 - gap
    times = rf"\( {start}{{:}}{past + gap} \) am", rf"\( {end}{{:}}{past:02} \) pm"
    return Item(
        question=either(
            rng,
            f"A coach leaves at {times[0]} and arrives at {times[1]}. How long does the journey take?",
            f"A shop opens at {times[0]} and closes at {times[1]}. For how long is it open?",
        ),
        right=duration(hours - 1, minutes),
        wrong={
            SMALLER_FROM_LARGER: duration(hours, gap),
            NEXT_COLUMN_NOT_REDUCED: duration(hours, minutes),
            HUNDRED_MINUTES: duration(hours - 1, 100 - gap),
            "Adds ten instead of twelve to change an afternoon time to the 24-hour clock": duration(hours - 3, minutes),
            "Ignores am and pm and finds the difference between the two clock readings": duration(start - end, gap),
        },
        slips=(duration(hours - 1, minutes - 5), duration(hours - 2, minutes)),
    )
