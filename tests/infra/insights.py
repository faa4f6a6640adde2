"""The part of CloudWatch Metrics Insights that our queries use. ``parse`` refuses what CloudWatch refuses.

The reserved words are those that a real account refused as a bare identifier, whatever their case
(radkawar/stackd, testdata/aws/cloudwatch/metric_insights_keywords.json); each was accepted in double quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 2048
"""Most characters in the expression of an alarm or a widget."""

RESERVED = frozenset(
    """
    ABS ABSOLUTE ACOS ACTION ADD ALL ALLOCATE ALTER AND ANY ARE ARRAY ARRAY_AGG ARRAY_MAX_CARDINALITY AS ASC
    ASENSITIVE ASIN ASSERTION ASYMMETRIC AT ATAN ATOMIC AUTHORIZATION AVG BEGIN BEGIN_FRAME BEGIN_PARTITION BETWEEN
    BIGINT BINARY BIT BLOB BOOLEAN BOTH BY CALL CALLED CARDINALITY CASCADE CASCADED CASE CAST CATALOG CEIL CEILING
    CHAR CHARACTER CHARACTER_LENGTH CHAR_LENGTH CHECK CLASSIFIER CLOB CLOSE COALESCE COLLATE COLLATION COLLECT
    COLUMN COMMIT CONDITION CONNECT CONNECTION CONSTRAINT CONSTRAINTS CONTAINS CONTINUE CONVERT COPY CORR
    CORRESPONDING COS COSH COUNT COVAR_POP COVAR_SAMP CREATE CROSS CUBE CUME_DIST CURRENT CURRENT_CATALOG
    CURRENT_DATE CURRENT_DEFAULT_TRANSFORM_GROUP CURRENT_PATH CURRENT_ROLE CURRENT_ROW CURRENT_SCHEMA CURRENT_TIME
    CURRENT_TIMESTAMP CURRENT_TRANSFORM_GROUP_FOR_TYPE CURRENT_USER CURSOR CYCLE DATE DAY DEALLOCATE DEC DECFLOAT
    DECIMAL DECLARE DEFAULT DEFERRABLE DEFERRED DEFINE DELETE DENSE_RANK DEREF DESC DESCRIBE DESCRIPTOR
    DETERMINISTIC DIAGNOSTICS DISCONNECT DISTINCT DOMAIN DOUBLE DROP DYNAMIC EACH ELEMENT ELSE EMPTY END END-EXEC
    END_FRAME END_PARTITION EQUALS ESCAPE EVERY EXCEPT EXCEPTION EXEC EXECUTE EXISTS EXP EXTERNAL EXTRACT FALSE
    FETCH FILTER FIRST FIRST_VALUE FLOAT FLOOR FOR FOREIGN FOUND FRAME_ROW FREE FROM FULL FUNCTION FUSION GET GLOBAL
    GO GOTO GRANT GROUP GROUPING GROUPS HAVING HOLD HOUR IDENTITY IMMEDIATE IN INDICATOR INITIAL INITIALLY INNER
    INOUT INPUT INSENSITIVE INSERT INT INTEGER INTERSECT INTERSECTION INTERVAL INTO IS ISOLATION JOIN JSON_ARRAY
    JSON_ARRAYAGG JSON_EXISTS JSON_OBJECT JSON_OBJECTAGG JSON_QUERY JSON_TABLE JSON_TABLE_PRIMITIVE JSON_VALUE KEY
    LAG LANGUAGE LARGE LAST LAST_VALUE LATERAL LEAD LEADING LEFT LEVEL LIKE LIKE_REGEX LIMIT LISTAGG LN LOCAL
    LOCALTIME LOCALTIMESTAMP LOG LOG10 LOWER MATCH MATCHES MATCH_NUMBER MATCH_RECOGNIZE MAX MEMBER MERGE METHOD MIN
    MINUTE MOD MODIFIES MODULE MONTH MULTISET NAMES NATIONAL NATURAL NCHAR NCLOB NEW NEXT NO NONE NORMALIZE NOT
    NTH_VALUE NTILE NULL NULLIF NUMERIC OCCURRENCES_REGEX OCTET_LENGTH OF OFFSET OLD OMIT ON ONE ONLY OPEN OPTION OR
    ORDER OUT OUTER OUTPUT OVER OVERLAPS OVERLAY PAD PARAMETER PARTIAL PARTITION PATTERN PER PERCENT PERCENTILE_CONT
    PERCENTILE_DISC PERCENT_RANK PERIOD PORTION POSITION POSITION_REGEX POWER PRECEDES PRECISION PREPARE PRESERVE
    PRIMARY PRIOR PRIVILEGES PROCEDURE PTF PUBLIC RANGE RANK READ READS REAL RECURSIVE REF REFERENCES REFERENCING
    REGR_AVGX REGR_AVGY REGR_COUNT REGR_INTERCEPT REGR_R2 REGR_SLOPE REGR_SXX REGR_SXY REGR_SYY RELATIVE RELEASE
    RESTRICT RESULT RETURN RETURNS REVOKE RIGHT ROLLBACK ROLLUP ROW ROWS ROW_NUMBER RUNNING SAVEPOINT SCHEMA SCOPE
    SCROLL SEARCH SECOND SECTION SEEK SELECT SENSITIVE SESSION SESSION_USER SET SHOW SIMILAR SIN SINH SIZE SKIP
    SMALLINT SOME SPACE SPECIFIC SPECIFICTYPE SQL SQLEXCEPTION SQLSTATE SQLWARNING SQRT START STATIC STDDEV_POP
    STDDEV_SAMP SUBMULTISET SUBSET SUBSTRING SUBSTRING_REGEX SUCCEEDS SUM SYMMETRIC SYSTEM SYSTEM_TIME SYSTEM_USER
    TABLE TABLESAMPLE TAN TANH TEMPORARY THEN TIME TIMESTAMP TIMEZONE_HOUR TIMEZONE_MINUTE TO TRAILING TRANSACTION
    TRANSLATE TRANSLATE_REGEX TRANSLATION TREAT TRIGGER TRIM TRIM_ARRAY TRUE TRUNCATE UESCAPE UNION UNIQUE UNKNOWN
    UNNEST UPDATE UPPER USAGE USER USING VALUE VALUES VALUE_OF VARBINARY VARCHAR VARYING VAR_POP VAR_SAMP VERSIONING
    VIEW WHEN WHENEVER WHERE WIDTH_BUCKET WINDOW WITH WITHIN WITHOUT WORK WRITE XMLCAST XMLEXISTS XMLNAMESPACES YEAR
    ZONE
    """.split()  # noqa: SIM905  hundreds of literals would read worse
)

NAME = r'(?:"[^"]+"|\w+)'
CONDITION = rf"{NAME} (?:=|!=) '[^']*'"
GRAMMAR = re.compile(
    rf"SELECT (?P<function>AVG|COUNT|MAX|MIN|SUM)\((?P<metric>{NAME})\) "  # noqa: S608  it reads queries
    rf"FROM SCHEMA\((?P<namespace>{NAME})(?P<dimensions>(?:, {NAME})+)\)"
    rf"(?: WHERE (?P<where>{CONDITION}(?: AND {CONDITION})*))?"
    rf" GROUP BY (?P<group>{NAME}) ORDER BY (?:AVG|COUNT|MAX|MIN|SUM)\(\) (?:ASC|DESC)"
)
"""CloudWatch User Guide, query components and syntax. An alarm on groups needs both GROUP BY and ORDER BY."""


class RefusedError(ValueError):
    """CloudWatch would refuse the query."""


@dataclass(frozen=True)
class Query:
    """The parts of a query, with unquoted names."""

    function: str
    metric: str
    namespace: str
    dimensions: tuple[str, ...]
    group: str
    conditions: tuple[tuple[str, str, str], ...]
    """Each condition: a dimension, ``=`` or ``!=``, and a value."""

    def matches(self, metric: str, dimensions: dict[str, str]) -> bool:
        """Whether the query reads a metric: SCHEMA matches exactly the named dimensions."""
        return (
            self.metric == metric
            and set(self.dimensions) == dimensions.keys()
            and all((dimensions.get(name) == value) == (how == "=") for name, how, value in self.conditions)
        )


def parse(text: str) -> Query:
    """Parse a query. Raises RefusedError for a query that CloudWatch would not run."""
    if len(text) > LONGEST:
        raise RefusedError(f"{len(text)} characters, of {LONGEST} at most: {text}")
    found = GRAMMAR.fullmatch(text)
    if not found:
        raise RefusedError(f"not in the grammar: {text}")
    conditions = re.findall(rf"({NAME}) (!?=) '([^']*)'", found["where"] or "")
    return Query(
        function=found["function"],
        metric=_name(found["metric"]),
        namespace=_name(found["namespace"]),
        dimensions=tuple(_name(one) for one in re.findall(NAME, found["dimensions"])),
        group=_name(found["group"]),
        conditions=tuple((_name(name), how, value) for name, how, value in conditions),
    )


def _name(identifier: str) -> str:
    if identifier.startswith('"'):
        return identifier[1:-1]
    if identifier.upper() in RESERVED:
        raise RefusedError(f"{identifier} is a reserved word; put it in double quotes")
    return identifier
