"""Queries that are right where their rows are."""

import time
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envhub.contracts.ids import TaskId
from envhub.contracts.messages import Message
from envhub.contracts.task import Task
from envhub.errors import JudgeFault, UsageError
from envhub.testing.judge_suite import JudgeSuite, answered
from judges import SqlResult
from judges.sql_worker import alike, matched

SETUP = "create table p(name text, age int); insert into p values ('a', 1), ('b', 2), ('b', 2), ('é', null);"


def ask(query: str, setup: str = SETUP) -> Task:
    return Task(TaskId("ages"), (Message.user("All ages in thirds?"),), query, {"setup": setup})


THIRDS = ask("select name, age / 3.0 from p")


class TestSql(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return SqlResult()

    @pytest.fixture
    def gold(self):
        return answered(THIRDS, "So:\n```sql\nSELECT name AS who, age * (1 / 3.0) FROM p ORDER BY age DESC\n```")

    @pytest.fixture
    def wrong(self):
        return answered(THIRDS, "select name, age from p")


def scalar(query: str, gold: str, **options) -> float:
    return SqlResult(**options)(answered(ask(gold), query)).scalar


@pytest.mark.parametrize(
    ("query", "gold", "options", "correct"),
    [
        ("select 1", "select 1.0", {}, 1.0),
        ("select '1'", "select 1", {}, 0.0),
        ("select null", "select 0", {}, 0.0),
        ("select distinct name from p", "select name from p", {}, 0.0),
        ("select age, name from p", "select name, age from p", {}, 0.0),
        ("select name from p order by name desc", "select name from p order by name", {}, 1.0),
        ("select name from p order by name desc", "select name from p order by name", {"ordered": True}, 0.0),
        ("select name from p order by 1", "select name from p order by name", {"ordered": True}, 1.0),
        ("select 1.01", "select 1.0", {}, 0.0),
        ("select 1.01", "select 1.0", {"tolerance": 0.02}, 1.0),
        ("select 9007199254740993", "select 9007199254740992", {"tolerance": 0.1}, 0.0),
        ("with q as (select 1 as n) select n from q", "select 1", {}, 1.0),
        ("select name from p where 0", "select name from p where 1 = 2", {}, 1.0),
        ("<sql>select 1</sql>", "select 1", {}, 1.0),
        ("select 1;", "select 1", {}, 1.0),
        ("select x'00'", "select x'00'", {}, 1.0),
    ],
)
def test_rows_are_compared(query: str, gold: str, options: dict, correct: float):
    assert scalar(query, gold, **options) == correct


@pytest.mark.parametrize(
    "query",
    [
        "drop table p",
        "insert into p values ('c', 3) returning name, age / 3.0",
        "attach '{file}' as y",
        "vacuum into '{file}'",
        "pragma database_list",
        "select * from pragma_table_info('p')",
        "select load_extension('{file}')",
        "select 1; select 2",
        "create temp table t as select 1",
        "select * from nowhere",
        "select 1, 2, 3\x00",
        "\ud800",
        "select hex(zeroblob(900000000))",
    ],
)
def test_what_does_not_only_read_the_data_fails(query: str, tmp_path):
    score = SqlResult()(answered(THIRDS, query.format(file=tmp_path / "it.db")))
    assert score.components == {"correct": 0.0, "ran": 0.0}
    assert not list(tmp_path.iterdir())


ENDLESS = "with recursive r(n) as (select 1 union all select n + 1 from r) select count(*) from r"


def test_a_query_without_end_is_wrong_in_time():
    start = time.monotonic()
    score = SqlResult(timeout_s=0.5)(answered(THIRDS, ENDLESS))
    assert time.monotonic() - start < 10
    assert (score.scalar, score.explanation) == (0.0, "the query: killed after 0.5 s")
    assert scalar(ENDLESS.replace("count(*)", "n"), "select 1") == 0.0, "rows without end"


def test_a_query_of_the_task_without_end_is_a_fault():
    with pytest.raises(JudgeFault, match="task 'ages': its own query can't be run: killed after"):
        SqlResult(timeout_s=0.5)(answered(ask(ENDLESS), "select 1"))


@pytest.mark.parametrize(
    "task",
    [ask("select"), ask("select 1", "creat table p"), ask("drop table p"), ask(ENDLESS.replace("count(*)", "n"))],
)
def test_a_task_that_can_not_be_run_is_its_own_fault(task: Task):
    with pytest.raises(UsageError, match="task 'ages': its own data or query failed"):
        SqlResult()(answered(task, "select 1"))


@pytest.mark.parametrize("answer", [None, 7])
def test_an_answer_is_a_query(answer: object):
    with pytest.raises(UsageError, match="needs a query as its answer"):
        SqlResult()(answered(Task.ask("?", answer), "select 1"))


CELLS = st.sampled_from([None, "a", 1, 2, 1.0, 1.04, 1.08, 1.12])
ROWS = st.lists(st.tuples(CELLS, CELLS), max_size=5)


@settings(deadline=None)
@given(ROWS, ROWS)
def test_rows_are_paired_as_if_all_pairings_were_tried(given_rows, right):
    tried = any(all(map(lambda a, b: alike(a, b, 0.05), order, right)) for order in permutations(given_rows))
    if len(given_rows) == len(right):
        assert matched(given_rows, right, 0.05) == tried


@pytest.mark.parametrize("options", [{"timeout_s": 0}, {"tolerance": -1}, {"tolerance": 1}])
def test_bounds_are_checked(options: dict):
    with pytest.raises(UsageError, match="must be"):
        SqlResult(**options)
