"""Writes src/text/jinja/unicode.rs: what Python's str methods know of characters and Rust's char does not.

    python3 make_unicode.py > ../../src/text/jinja/unicode.rs
"""

import sys
import unicodedata

ALL = [c for c in map(chr, range(sys.maxunicode + 1)) if not 0xD800 <= ord(c) < 0xE000]


def ranges(holds):
    found = []
    for c in ALL:
        if holds(c):
            if found and found[-1][1] == ord(c) - 1:
                found[-1][1] = ord(c)
            else:
                found.append([ord(c), ord(c)])
    return found


def table(name, doc, pairs):
    print(f"\n/// {doc}")
    print("#[rustfmt::skip]")
    print(f"pub(super) const {name}: [(u32, u32); {len(pairs)}] = [")
    write(f"({a:#x}, {b:#x})," for a, b in pairs)
    print("];")


def mapping(name, doc, pairs):
    print(f"\n/// {doc}")
    print("#[rustfmt::skip]")
    print(f"pub(super) const {name}: [(char, &str); {len(pairs)}] = [")
    text = lambda s: "".join(f"\\u{{{ord(c):x}}}" for c in s)
    write(f"('{text(a)}', \"{text(b)}\")," for a, b in pairs)
    print("];")


def write(items):
    line = "   "
    for item in items:
        if len(line) + 1 + len(item) > 127:
            print(line)
            line = "   "
        line += " " + item
    print(line)


print("//! Character tables of Python's `str`, where Rust's `char` has none or others. Written by tests/golden/make_unicode.py")
print(f"//! with Unicode {unicodedata.unidata_version}; not to be edited.")
table("UNPRINTABLE", "What `repr` escapes: not `str.isprintable`.", ranges(lambda c: not c.isprintable()))
table("ALPHA", "`str.isalpha`.", ranges(str.isalpha))
table("DECIMAL", "`str.isdecimal`: runs of ten digits, 0 first.", ranges(str.isdecimal))
table("DIGIT", "`str.isdigit` without the decimal ones.", ranges(lambda c: c.isdigit() and not c.isdecimal()))
table("NUMERIC", "`str.isnumeric` without the digits.", ranges(lambda c: c.isnumeric() and not c.isdigit()))
table("TITLE", "Letters in title case.", ranges(lambda c: unicodedata.category(c) == "Lt"))
mapping("TITLES", "`str.title` where it is not `str.upper`.", [(c, c.title()) for c in ALL if c.title() != c.upper()])
mapping("FOLDS", "`str.casefold` where it is not `str.lower`.", [(c, c.casefold()) for c in ALL if c.casefold() != c.lower()])
