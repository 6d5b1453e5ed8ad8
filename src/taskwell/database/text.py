"""Order and search of text, with the same meaning on every engine."""

from sqlalchemy import Boolean, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from taskwell.database.schema import FUNCTIONS_SCHEMA


class by_code_point(FunctionElement[str]):  # noqa: N801 - written like an SQL function
    """A text that is compared by Unicode code points, whatever locale the database has."""

    inherit_cache = True
    type = Text()

    def __init__(self, value: ColumnElement[str]) -> None:
        super().__init__(value)


class contains(FunctionElement[bool]):  # noqa: N801 - written like an SQL function
    """Whether a text contains another one, by Unicode's simple case folding. No character is special."""

    inherit_cache = True
    type = Boolean()

    def __init__(self, value: ColumnElement[str], part: ColumnElement[str]) -> None:
        super().__init__(value, part)


@compiles(by_code_point, "postgresql")
def _by_code_point_postgres(element: by_code_point, compiler: SQLCompiler, **options: object) -> str:
    return f'{compiler.process(element.clauses, **options)} COLLATE "C"'


# SQLite compares the bytes of UTF-8, which have the order of the code points.
@compiles(by_code_point)
def _by_code_point_sqlite(element: by_code_point, compiler: SQLCompiler, **options: object) -> str:
    return compiler.process(element.clauses, **options)


@compiles(contains, "postgresql")
def _contains_postgres(element: contains, compiler: SQLCompiler, **options: object) -> str:
    value, part = (compiler.process(clause, **options) for clause in element.clauses)
    fold = f"{FUNCTIONS_SCHEMA}.fold_case"
    # The subquery is run once, not for each row. Folded texts are compared by their bytes, which is fastest.
    return f'(strpos({fold}({value}) COLLATE "C", (SELECT {fold}({part}))) > 0)'


@compiles(contains)
def _contains_sqlite(element: contains, compiler: SQLCompiler, **options: object) -> str:
    value, part = (compiler.process(clause, **options) for clause in element.clauses)
    return f"(instr(fold_case({value}), (SELECT fold_case({part}))) > 0)"


def fold_case(text: str | None) -> str | None:
    """Returns `text` in Unicode's simple case folding (CaseFolding.txt, statuses C and S). SQLite calls it."""
    if text is None:
        return None
    # Python itself has only the full folding, which differs where it makes several characters of one.
    folded = text.casefold()
    return folded if len(folded) == len(text) else text.translate(_FOLDED)


class _Folded(dict[int, str]):
    """Folds a character. Keeps only those that change, so that no text can fill the memory."""

    def __missing__(self, code_point: int) -> str:
        char = chr(code_point)
        folded = next(form for form in (char.casefold(), char.lower(), char) if len(form) == 1)
        if folded != char:
            self[code_point] = folded
        return folded


# Letters whose simple folding Python does not know: the migration says why the first becomes a noncharacter; the others
# are of Unicode 15.1.
_FOLDED = _Folded({ord("\u0130"): "\uffff", ord("\u1fd3"): "\u0390", ord("\u1fe3"): "\u03b0", ord("\ufb05"): "\ufb06"})
