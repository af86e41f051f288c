"""Perimeter, area and volume, angles, Pythagoras' theorem, similarity, units, bearings and transformations."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from random import Random

from pipeline.sample.construct import Item, construct, degrees, either, math, written

AREA_FOR_PERIMETER = "Confuses the area of a shape with its perimeter"
AREA_LIKE_LENGTH = "Believes that an area changes by the same factor as the lengths"
CUBES_FACTOR = "Cubes the length factor, as for a volume, when an area changes size or unit"
DOUBLES_FACTOR = "Doubles the length factor when it should be squared for an area"

# legs, the first one even, and hypotenuse
TRIPLES = [(a, b, c) for c in range(5, 42) for b in range(3, c) for a in range(4, c, 2) if a * a + b * b == c * c]
CONVERSIONS = (("cm", "mm", 10), ("m", "cm", 100), ("km", "m", 1000))


def pi_area(coefficient: int, power: int = 1) -> str:
    """An area in square centimetres as a multiple of a power of pi."""
    index = f"^{{{power}}}" if power > 1 else ""
    return math(rf"{coefficient} \pi{index} \mathrm{{~cm^{{2}}}}")


@construct("Perimeter and Area", "Find the perimeter of a compound shape made from rectangles")
def compound_perimeter(rng: Random) -> Item:
    base, left = rng.randint(9, 18), rng.randint(7, 15)
    top, edge = rng.randint(2, base - 3), rng.randint(2, left - 3)
    right = 2 * (base + left)
    sides = f"base {base} cm, left side {left} cm, top {top} cm and right side {edge} cm"
    ask = rng.choice(("What is the perimeter of the shape?", "Work out the perimeter of this L-shape."))
    return Item(
        question=f"![An L-shape with {sides}]()\n\nEvery corner of the shape is a right angle. {ask}",
        right=right,
        wrong={
            "Adds only the labelled sides of a shape and leaves out those that must be worked out": base + left + top + edge,
            AREA_FOR_PERIMETER: base * left - (base - top) * (left - edge),
            "Adds the full perimeters of the rectangles into which a compound shape is split": right + 2 * top,
            "Subtracts the perimeter of a missing corner from that of the surrounding rectangle": 2 * (top + edge),
            "Adds only one length and one width when finding a perimeter": base + left,
        },
        slips=(right + 2, right - 2, right + 10),
        unit="cm",
    )


@construct("Perimeter and Area", "Find the area of a trapezium from its sides and its perpendicular height")
def trapezium_area(rng: Random) -> Item:
    overhang, height, slant = rng.choice(TRIPLES)
    short = rng.randrange(4, 31, 2)
    long = short + overhang
    right = (short + long) * height // 2
    sides = f"parallel sides of {short} cm and {long} cm, joined by a sloping side of {slant} cm"
    ask = rng.choice(("What is the area of the trapezium?", "Calculate the area of this trapezium."))
    return Item(
        question=f"![A trapezium with {sides} and by a side of {height} cm at right angles to both]()\n\n{ask}",
        right=right,
        wrong={
            "Forgets to halve the sum of the parallel sides when finding the area of a trapezium": (short + long) * height,
            "Multiplies the parallel sides of a trapezium together where their sum is needed": short * long * height // 2,
            "Uses the sloping side of a trapezium in place of its perpendicular height": (short + long) * slant // 2,
            "Uses only the longer parallel side of a trapezium, as though it were a rectangle": long * height,
            AREA_FOR_PERIMETER: short + long + height + slant,
        },
        slips=(right + 2, right - 10, right + 20),
        unit="cm^{2}",
    )


@construct("Circles", "Find the area of a circle from its diameter, in terms of pi")
def circle_area(rng: Random) -> Item:
    radius = rng.randint(3, 25)
    diameter = 2 * radius
    thing = rng.choice(("plate", "table mat", "clock face", "drum skin", "cake board"))
    ask = rng.choice(("What is its area? Leave your answer in terms of", "Find its area as a multiple of"))
    return Item(
        question=rf"A circular {thing} has a diameter of {written(diameter, 'cm')}. {ask} \( \pi \).",
        right=pi_area(radius**2),
        wrong={
            "Uses the diameter of a circle as though it were the radius": pi_area(diameter**2),
            "Confuses the formula for the area of a circle with that for its circumference": pi_area(diameter),
            "Squares pi as well as the radius when finding the area of a circle": pi_area(radius**2, power=2),
            "Squares the diameter and only then halves it to find the square of the radius": pi_area(diameter**2 // 2),
            "Forgets to square the radius when finding the area of a circle": pi_area(radius),
        },
        slips=(pi_area(radius**2 + 2), pi_area(radius**2 - 1), pi_area(radius**2 + 10)),
    )


@construct("Volume and Surface Area", "Find the total surface area of a cuboid")
def cuboid_surface(rng: Random) -> Item:
    length, width, height = rng.sample(range(2, 13), 3)
    thing = rng.choice(("cuboid", "closed cardboard box", "solid block of wood in the shape of a cuboid"))
    ask = rng.choice(("What is its total surface area?", "Work out its total surface area."))
    once = length * width + width * height + height * length
    edges = f"{written(length, 'cm')} long, {written(width, 'cm')} wide and {written(height, 'cm')} high"
    return Item(
        question=f"A {thing} is {edges}. {ask}",
        right=2 * once,
        wrong={
            "Confuses the volume of a solid with its surface area": length * width * height,
            "Counts each pair of opposite faces of a cuboid only once": once,
            "Leaves out the top and the base when finding the surface area of a closed box": 2 * height * (length + width),
            "Adds the lengths of all the edges to find a surface area": 4 * (length + width + height),
            "Believes that all six faces of any cuboid have the same area": 6 * length * width,
        },
        slips=(2 * once + 2, 2 * once - 4, 2 * once + 10),
        unit="cm^{2}",
    )


@construct("Angles", "Combine angle facts about isosceles triangles and parallel lines")
def parallel_and_isosceles(rng: Random) -> Item:
    apex = rng.choice([size for size in range(24, 90, 2) if size != 60])
    top, left, right, far = rng.choice(("ABCP", "PQRX", "DEFS", "KLMT"))
    sketch = f"Triangle {top}{left}{right} with {top} above {left}{right}; a line through {top} is parallel to {left}{right}"
    return Item(
        question=f"![{sketch} and {far} lies on it, on the same side as {left}]()\n\n"
        rf"In the triangle, \( {top}{left} = {top}{right} \) and angle \( {left}{top}{right} = {apex}^{{\circ}} \)."
        rf" What is the size of angle \( {far}{top}{right} \)?",
        right=degrees(90 + apex // 2),
        wrong={
            "Believes that co-interior angles between parallel lines are equal": degrees(90 - apex // 2),
            "Takes the angle between the equal sides of an isosceles triangle as one of its equal angles": degrees(180 - apex),
            "Forgets to share what remains of 180 degrees between the two equal angles of a triangle": degrees(apex),
            "Believes that the angles of a triangle add up to 360 degrees": degrees(apex // 2),
            "Assumes that a triangle with two equal sides has three angles of 60 degrees": degrees(120),
        },
        slips=(degrees(92 + apex // 2), degrees(80 + apex // 2), degrees(91 + apex // 2)),
    )


@construct("Pythagoras' Theorem", "Use Pythagoras' theorem to find a shorter side")
def shorter_side(rng: Random) -> Item:
    missing, known, longest = rng.choice(TRIPLES)
    hypotenuse, leg = written(longest, "m"), written(known, "m")
    return Item(
        question=either(
            rng,
            f"One side of a rectangular lawn is {leg} and its diagonal is {hypotenuse}. How long is its other side?",
            f"A straight wire of length {hypotenuse} joins the top of a vertical mast to a point on level ground,"
            f" {leg} from the foot of the mast. How tall is the mast?",
            f"The longest side of a flower bed in the shape of a right-angled triangle is {hypotenuse}."
            f" Another side is {leg}. How long is the third side?",
        ),
        right=missing,
        wrong={
            "Adds the squares of two known sides although one of them is the hypotenuse": math(
                rf"\sqrt{{{longest**2 + known**2}}} \mathrm{{~m}}"
            ),
            "Subtracts the known sides of a right-angled triangle without squaring them": longest - known,
            "Forgets to take the square root at the end of a calculation with Pythagoras' theorem": missing**2,
            "Confuses Pythagoras' theorem with the formula for the area of a triangle": Decimal(known * longest) / 2,
            "Assumes that the two shorter sides of a right-angled triangle are equal": known,
        },
        slips=(missing + 1, missing + 2, missing - 1),
        unit="m",
    )


@construct("Length, Area and Volume", "Use the scale factor of similar shapes to find an area")
def similar_areas(rng: Random) -> Item:
    scale = rng.choice((Fraction(3), Fraction(4), Fraction(5), Fraction(3, 2), Fraction(5, 2)))
    short = scale.denominator * rng.randint(2, 6)
    long = scale * short
    area = scale.denominator**3 * rng.randint(4, 12)
    shape = rng.choice(("triangles", "pentagons", "kites", "trapezia"))
    given = f"The smaller has a side of {written(short, 'cm')} and an area of {written(area, 'cm^{2}')}."
    return Item(
        question=f"Two {shape} are mathematically similar. {given} The matching side of the larger is"
        f" {written(long, 'cm')}. What is the area of the larger?",
        right=area * scale**2,
        wrong={
            AREA_LIKE_LENGTH: area * scale,
            CUBES_FACTOR: area * scale**3,
            DOUBLES_FACTOR: area * scale * 2,
            "Adds the difference between matching lengths to an area instead of multiplying by a factor": area + long - short,
            "Takes the longer of two matching lengths itself as the scale factor": area * long**2,
        },
        slips=(area * scale**2 + 4, area * scale**2 - 6, area * scale**2 + 10),
        unit="cm^{2}",
    )


@construct("Length, Area and Volume", "Convert between metric units of area")
def convert_area(rng: Random) -> Item:
    large, small, factor = rng.choice(CONVERSIONS)
    area = Decimal(rng.choice([tenths for tenths in range(12, 100) if tenths % 10])) / 10
    given = written(area, f"{large}^{{2}}")
    target = rf"\( \mathrm{{{small}^{{2}}}} \)"
    return Item(
        question=rng.choice((f"Convert {given} to {target}.", f"An area is {given}. What is the same area in {target}?")),
        right=area * factor**2,
        wrong={
            AREA_LIKE_LENGTH: area * factor,
            CUBES_FACTOR: area * factor**3,
            DOUBLES_FACTOR: area * factor * 2,
            "Divides by the conversion factor when changing to a smaller unit": area / factor**2,
            "Squares the whole converted number because the new unit is a square unit": (area * factor) ** 2,
        },
        slips=(area * factor**2 + factor, area * factor**2 - factor, area * factor**2 / 2),
        unit=f"{small}^{{2}}",
    )


@construct("Angles", "Find the bearing of the return journey")
def return_bearing(rng: Random) -> Item:
    out = rng.choice([size for size in range(187, 331) if size != 270])
    back = out - 180
    start, end = rng.sample(("the harbour", "the lighthouse", "the village", "the airfield", "the campsite"), 2)
    return Item(
        question=either(
            rng,
            f"The bearing of {end} from {start} is {degrees(out)}. What is the bearing of {start} from {end}?",
            f"A helicopter flies from {start} to {end} on a bearing of {degrees(out)}. On what bearing must it fly straight"
            " back?",
        ),
        right=degrees(back, figures=3),
        wrong={
            "Believes that the return journey has the same bearing as the outward one": degrees(out),
            "Subtracts a bearing from 360 to find the bearing of the way back": degrees(360 - out, figures=3),
            "Believes that turning to face the opposite way is a turn of 90 degrees": degrees(out - 90, figures=3),
            "Adds 180 for a return bearing even when the result passes a full turn": degrees(out + 180),
            "Writes a bearing of fewer than 100 degrees without its leading zeros": degrees(back) if back < 100 else None,
        },
        slips=(degrees(back + 10, figures=3), degrees(back + 2, figures=3), degrees(back + 100, figures=3)),
    )


@construct("Transformations", "Reflect a point in a line parallel to an axis")
def reflect_point(rng: Random) -> Item:
    mirror = rng.choice((-5, -4, -3, -2, -1, 1, 2, 3, 4, 5))
    moving = rng.choice([place for place in range(-6, 7) if place and place != mirror and 2 * place != mirror])
    image = 2 * mirror - moving
    fixed = rng.choice([place for place in range(-6, 7) if place not in (0, mirror, moving)])
    axis = rng.choice("xy")
    line = rf"\( {axis} = {mirror} \)"

    def point(across: int, along: int) -> str:
        return math(f"({across}, {along})" if axis == "x" else f"({along}, {across})")

    start = point(moving, fixed)
    return Item(
        question=either(
            rng,
            f"The point {start} is reflected in the line {line}. What are the coordinates of its image?",
            f"Where does the point {start} go when it is reflected in the line {line}?",
        ),
        right=point(image, fixed),
        wrong={
            "Confuses lines of the form x = k with lines of the form y = k": point(moving, 2 * mirror - fixed),
            "Reflects in an axis when the mirror line is parallel to that axis": point(-moving, fixed),
            "Places the image of a reflected point on the mirror line itself": point(mirror, fixed),
            "Moves a point by the number in the equation of a mirror line": point(moving + mirror, fixed),
            "Measures how far a point is from the axis instead of from the mirror line": point(mirror - moving, fixed),
        },
        slips=(point(image + 1, fixed), point(image, -fixed), point(image, fixed + 1)),
    )
