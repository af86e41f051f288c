"""Expressions, equations, inequalities, sequences and straight lines."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from pipeline.sample.construct import Item, construct, either, math

JOINS_UNLIKE = "Joins unlike terms into a single term when simplifying"
DOUBLES = "Confuses multiplying a variable by itself with doubling it"
KEEPS_SIGN = "Moves a constant term to the other side of an equation without changing its sign"
SUBTRACTS_COEFFICIENT = "Subtracts the coefficient of the unknown instead of dividing by it"

REVERSED = {"<": ">", ">": "<", r"\leq": r"\geq", r"\geq": r"\leq"}
TOGGLED = {"<": r"\leq", ">": r"\geq", r"\leq": "<", r"\geq": ">"}


def total(*terms: tuple[int, str]) -> str:
    """A sum of (coefficient, variable) terms as bare LaTeX: zero terms left out, coefficients of one not written."""
    text = ""
    for size, variable in terms:
        if size:
            text += (" - " if size < 0 else " + ") + ("" if abs(size) == 1 and variable else str(abs(size))) + variable
    return text.replace(" - ", "-", 1) if text.startswith(" - ") else text.removeprefix(" + ") or "0"


def expr(*terms: tuple[int, str]) -> str:
    return math(total(*terms))


def roots(first: int, second: int) -> str:
    return math(f"x = {first}") + " or " + math(f"x = {second}")


@construct("Simplifying expressions", "Simplify an expression in two variables by collecting like terms")
def collect_like_terms(rng: Random) -> Item:
    x, y = rng.choice(("xy", "ab", "pq", "mn", "ct"))
    a, b = rng.randint(2, 9), rng.randint(4, 12)
    d = rng.randint(2, b - 1)
    return Item(
        question=f"{rng.choice(('Simplify', 'Collect the like terms in'))} {expr((a, x), (b, y), (1, x), (-d, y))}",
        right=expr((a + 1, x), (b - d, y)),
        wrong={
            JOINS_UNLIKE: expr((a + b + 1 - d, x + y)),
            "Multiplies the variables as well when adding like terms": expr((a + 1, x + "^2"), (b - d, y + "^2")),
            "Ignores the minus sign in front of a term when collecting like terms": expr((a + 1, x), (b + d, y)),
            "Believes that each sign belongs to the term written before it": expr((a - 1, x), (b + d, y)),
            "Believes that a variable with no written coefficient counts as zero": expr((a, x), (b - d, y)),
        },
        slips=(expr((a + 2, x), (b - d, y)), expr((a + 1, x), (b - d + 1, y))),
    )


@construct("Expanding brackets", "Expand a single bracket with a negative number outside")
def expand_single_bracket(rng: Random) -> Item:
    x = rng.choice("xyntp")
    a, b, c = rng.sample(range(2, 10), 3)
    ask = rng.choice(("Expand", "Multiply out the bracket in", "Which expression is equal to"))
    return Item(
        question=ask + " " + math(f"-{a}({b}{x} - {c})") + ("?" if ask.startswith("Which") else ""),
        right=expr((-a * b, x), (a * c, "")),
        wrong={
            "Multiplies only the first term in a bracket by the number outside": expr((-a * b, x), (-c, "")),
            "Keeps the sign inside a bracket unchanged when the number outside is negative": expr((-a * b, x), (-a * c, "")),
            JOINS_UNLIKE: expr((a * c - a * b, x)),
            "Adds the number outside a bracket to each term inside": expr((b - a, x), (-a - c, "")),
        },
        slips=(expr((-a * b, x), (a * c + a, "")), expr((-a * b - 1, x), (a * c, ""))),
    )


@construct("Expanding brackets", "Expand the product of two brackets with opposite signs")
def expand_double_brackets(rng: Random) -> Item:
    a, b = rng.sample(range(2, 13), 2)
    long, wide = total((1, "x"), (a, "")), total((1, "x"), (-b, ""))
    picture = f"![A rectangle, {math(long)} cm long and {math(wide)} cm wide]()\n"
    return Item(
        question=either(
            rng,
            f"Expand and simplify {math(f'({long})({wide})')}",
            f"Multiply out {math(f'({wide})({long})')} and simplify your answer.",
            f"{picture}Which expression, without brackets, gives the area of the rectangle in cm²?",
        ),
        right=expr((1, "x^2"), (a - b, "x"), (-a * b, "")),
        wrong={
            "Multiplies only the first terms and the last terms of two brackets": expr((1, "x^2"), (-a * b, "")),
            DOUBLES: expr((2 + a - b, "x"), (-a * b, "")),
            "Uses the product of the two constants as the coefficient of x and their sum as the constant": expr(
                (1, "x^2"), (-a * b, "x"), (a - b, "")
            ),
            "Believes that a positive number times a negative number is positive when expanding two brackets": expr(
                (1, "x^2"), (a - b, "x"), (a * b, "")
            ),
        },
        slips=(expr((2, "x^2"), (a - b, "x"), (-a * b, "")), expr((1, "x^2"), (a - b, "x"), (-a * b - 1, ""))),
    )


@construct("Substitution", "Substitute a negative number into an expression with a squared variable")
def substitute_negative(rng: Random) -> Item:
    a, n = rng.randint(2, 6), rng.randint(3, 6)
    b = rng.choice((-1, 1)) * rng.randint(1, 20)
    value, expression = math(f"x = {-n}"), expr((a, "x^2"), (b, ""))
    return Item(
        question=rng.choice((f"What is the value of {expression} when {value}?", f"Work out {expression} for {value}.")),
        right=a * n * n + b,
        wrong={
            "Believes that the square of a negative number is negative": b - a * n * n,
            DOUBLES: b - 2 * a * n,
            "Multiplies by the coefficient before squaring the value of the variable": (a * n) ** 2 + b,
            "Believes that a coefficient is added to the variable that it stands before": a + n * n + b,
            "Leaves out the power when substituting a number into an expression": b - a * n,
        },
        slips=(a * n * n + b + a, a * n * n + b - 1),
    )


@construct("Solving linear equations", "Solve a linear equation with the unknown on both sides")
def solve_both_sides(rng: Random) -> Item:
    c, k, x, b = rng.randint(2, 6), rng.randint(2, 6), rng.randint(3, 9), rng.randint(1, 9)
    u = rng.choice("xyn")
    equation = math(f"{c + k}{u} + {b} = {c}{u} + {k * x + b}")
    return Item(
        question=rng.choice((f"Solve {equation}", f"Find the value of {math(u)} for which {equation}")),
        right=x,
        wrong={
            "Adds the terms with the unknown from both sides of an equation": Fraction(k * x, 2 * c + k),
            KEEPS_SIGN: Fraction(k * x + 2 * b, k),
            SUBTRACTS_COEFFICIENT: k * x - k,
            "Divides the coefficient by the constant when solving an equation": Fraction(1, x),
            "Stops solving when the term with the unknown is alone but still has a coefficient": k * x,
        },
        slips=(-x, Fraction(k * x, c + k)),
    )


@construct("Rearranging formulae", "Change the subject of a formula with two operations")
def change_subject(rng: Random) -> Item:
    y, x, meaning, things = either(
        rng,
        ("C", "h", "the cost in pounds of hiring a boat for", "hours"),
        ("T", "m", "the time in minutes to roast a turkey of", "kilograms"),
        ("D", "t", "the depth in centimetres of the water in a tank after", "minutes"),
        ("P", "n", "the pay in pounds for", "deliveries"),
    )
    a, b = rng.sample(range(2, 31), 2)

    def subject(value: str) -> str:
        return math(f"{x} = {value}")

    def over(numerator: str) -> str:
        return rf"\frac{{{numerator}}}{{{a}}}"

    return Item(
        question=f"The formula {math(f'{y} = {a}{x} + {b}')} gives {math(y)}, {meaning} {math(x)} {things}. "
        f"Make {math(x)} the subject of the formula.",
        right=subject(over(f"{y} - {b}")),
        wrong={
            KEEPS_SIGN: subject(over(f"{y} + {b}")),
            SUBTRACTS_COEFFICIENT: subject(f"{y} - {a + b}"),
            "Divides only one of two terms by the coefficient when rearranging": subject(f"{over(y)} - {b}"),
            "Swaps the two letters of a formula to change its subject": subject(f"{a}{y} + {b}"),
            "Multiplies by the coefficient of the new subject instead of dividing by it": subject(f"{a}({y} - {b})"),
        },
        slips=(subject(over(f"{y} - {a}")), subject(over(f"{b} - {y}"))),
    )


@construct("Laws of indices", "Raise a term with a coefficient and a power to a further power")
def power_of_a_power(rng: Random) -> Item:
    x = rng.choice("xyabpt")
    a, m, n = rng.randint(3, 10), rng.randint(3, 5), rng.randint(2, 3)

    def term(coefficient: int, index: int) -> str:
        return math(f"{coefficient}{x}^{{{index}}}")

    return Item(
        question=f"{rng.choice(('Simplify', 'Write without brackets:'))} {math(f'({a}{x}^{{{m}}})^{{{n}}}')}",
        right=term(a**n, m * n),
        wrong={
            "Adds the indices when raising a power to a power": term(a**n, m + n),
            "Raises only the variable in a bracket to the power outside": term(a, m * n),
            "Multiplies the coefficient in a bracket by the power outside": term(a * n, m * n),
            "Raises the index to the power outside a bracket instead of multiplying the two": term(a**n, m**n),
            "Treats the power outside a bracket as a factor that multiplies the bracket": term(a * n, m),
        },
        slips=(term(a**n, m * n + 1), term(a**n, m * n + 2)),
    )


@construct("Inequalities", "Solve a linear inequality with a negative coefficient")
def solve_inequality(rng: Random) -> Item:
    b, c, r = rng.randint(2, 7), rng.randint(1, 20), rng.randint(2, 9)
    sign = rng.choice(list(REVERSED))
    right = REVERSED[sign]
    return Item(
        question=f"Solve the inequality {math(f'{c + b * r} - {b}x {sign} {c}')}",
        right=math(f"x {right} {r}"),
        wrong={
            "Does not reverse an inequality sign when dividing by a negative number": math(f"x {sign} {r}"),
            "Solves an inequality as an equation and gives a single value": math(f"x = {r}"),
            "Confuses strict inequality signs with those that include the boundary": math(f"x {TOGGLED[right]} {r}"),
            "Drops the minus sign of the coefficient when dividing both sides by it": math(f"x {sign} {-r}"),
        },
        slips=(math(f"x {right} {r + 1}"), math(f"x {right} {r - 1}")),
    )


@construct("Sequences", "Find the nth term of a linear sequence")
def nth_term(rng: Random) -> Item:
    d, a = rng.choice((-4, -3, -2, 2, 3, 4, 5, 6, 7, 8, 9)), rng.randint(5, 15)
    terms = [str(d * n + a) for n in range(1, 5)]
    table = r"\begin{tabular}{|l|c|c|c|c|} \hline Position & 1 & 2 & 3 & 4 \\ \hline Term & "
    return Item(
        question=either(
            rng,
            f"A sequence begins {math(', '.join(terms))}. What is its {math('n')}th term?",
            f"{table}{' & '.join(terms)} \\\\ \\hline \\end{{tabular}}\nFind the {math('n')}th term of this sequence.",
        ),
        right=expr((d, "n"), (a, "")),
        wrong={
            "Believes that the nth term is n plus the common difference": expr((1, "n"), (d, "")),
            "Uses the first term as the constant of the nth term": expr((d, "n"), (d + a, "")),
            "Swaps the first term and the common difference in an nth term": expr((d + a, "n"), (d, "")),
            "Gives only the multiple of n in an nth term and leaves out the constant": expr((d, "n")),
            "Gives the next term of a sequence when asked for its nth term": 5 * d + a,
        },
        slips=(expr((d, "n"), (a + 1, "")), expr((d + 1, "n"), (a, ""))),
    )


@construct("Straight-line graphs", "Find the gradient of the line through two points")
def gradient_of_line(rng: Random) -> Item:
    m, c = rng.choice((-4, -3, -2, 2, 3, 4)), rng.choice((-13, -11, -7, 7, 11, 13))
    x1, run = rng.randint(1, 3), rng.randint(2, 4)
    x2, y1, y2 = x1 + run, m * x1 + c, m * (x1 + run) + c
    first, second = math(f"({x1}, {y1})"), math(f"({x2}, {y2})")
    picture = f"![A straight line on a pair of axes, passing through the points {first} and {second}]()"
    return Item(
        question=either(
            rng,
            f"{picture}\nWhat is the gradient of the line?",
            f"Find the gradient of the straight line through {first} and {second}.",
        ),
        right=m,
        wrong={
            "Divides the change in x by the change in y to find a gradient": Fraction(1, m),
            "Subtracts the x-coordinates in the opposite order to the y-coordinates": -m,
            "Gives the change in y alone as the gradient of a line": m * run,
            "Adds the coordinates of two points instead of subtracting them for a gradient": Fraction(y1 + y2, x1 + x2),
            "Gives the y-intercept of a line when asked for its gradient": c,
        },
        slips=(m + 1, m - 1),
    )


@construct("Forming expressions", "Write a worded rule with two operations as an expression")
def expression_from_words(rng: Random) -> Item:
    x, who = rng.choice("kmnpt"), rng.choice(("Amira", "Ben", "Chloe", "Dev", "Ella"))
    a, b = rng.sample(range(2, 11), 2)
    verb, sign = rng.choice((("adds", "+"), ("subtracts", "-")))
    return Item(
        question=f"{who} thinks of a number, {math(x)}, {verb} {math(str(b))}, then multiplies the result by "
        f"{math(str(a))}. Which expression shows {who}'s answer?",
        right=math(f"{a}({x} {sign} {b})"),
        wrong={
            "Does not use brackets when an operation applies to a whole expression": math(rf"{x} {sign} {b} \times {a}"),
            "Writes the operations of a worded rule in the reverse order": math(f"{a}{x} {sign} {b}"),
            "Confuses multiplying an expression by a number with raising it to a power": math(f"({x} {sign} {b})^{{{a}}}"),
            "Believes that a letter has the value of its place in the alphabet": math(
                f"{a}({ord(x) - ord('a') + 1} {sign} {b})"
            ),
        },
        slips=(math(f"{b}({x} {sign} {a})"), math(f"{a}({x} {sign} {a})")),
    )


@construct("Quadratic equations", "Solve a quadratic equation by factorising")
def solve_quadratic(rng: Random) -> Item:
    a, b = rng.sample(range(2, 10), 2)
    quadratic = math(total((1, "x^2"), (a - b, "x"), (-a * b, "")) + " = 0")
    return Item(
        question=rng.choice((f"Solve {quadratic} by factorising.", f"What are the solutions of {quadratic}?")),
        right=roots(-a, b),
        wrong={
            "Takes the numbers in the factorised brackets as the solutions": roots(a, -b),
            "Gives only the positive solution of a quadratic equation": math(f"x = {b}"),
            "Chooses a factor pair by its product and does not check its sum": roots(-a * b, 1),
            "Takes the coefficient of x and the constant as the solutions of a quadratic": roots(a - b, -a * b),
            "Gives both brackets the sign of the middle term when factorising": roots(-a, -b) if a > b else roots(a, b),
        },
        slips=(roots(-a, b + 1), roots(-a - 1, b)),
    )
