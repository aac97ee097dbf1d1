"""Flows, chains, groups and chords as what they are sent as; and results as what handlers get. No server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import pytest

import jobwire
from jobwire import App, Flow, Node, chain, chord, group, previous
from jobwire._bind import HEADER, bound
from jobwire._codec import DecodeError
from jobwire._workflow import _requests, additions
from jobwire.v1 import job_pb2
from jobwire.v1 import worker_service_pb2 as pb

CASES = json.loads((Path(__file__).parents[2] / "tests/conformance/bind/results.json").read_text())["cases"]
app = App("jobwire://127.0.0.1:1")


class Page(TypedDict):
    url: str
    body: str


@app.task("fetch")
def fetch(url: str) -> Page:
    return {"url": url, "body": ""}


@app.task("parse", queue="cpu", tags=["x"])
def parse(page: Page) -> list[str]:
    return []


@app.task("store")
def store(words: list[str], table: str = "pages", dry: bool = False) -> int:
    return 0


@app.task("total")
def total(counts: list[int]) -> int:
    return sum(counts)


def sent(flow: Any) -> dict[str, tuple[Any, Any, Any]]:
    """By node: payload, header, dependencies."""
    built = flow if isinstance(flow, Flow) else flow._flow("", {})
    creation, more = _requests(built)
    assert not more
    assert not creation.workflow.open
    return {
        node.name: (
            json.loads(node.job.payload.text),
            json.loads(node.job.headers.get(HEADER, "null")),
            [depends(dependency) for dependency in node.job.depends_on],
        )
        for node in creation.workflow.nodes
    }


def depends(message: job_pb2.Dependency) -> str:
    kind = message.WhichOneof("target")
    condition = job_pb2.DependencyCondition.Name(message.condition).removeprefix("DEPENDENCY_CONDITION_").lower()
    how = f" as {message.alias}" if message.pass_result else ""
    return f"{kind} {getattr(message, kind)}{how}" + ("" if condition == "unspecified" else f" {condition}")


# --- what is sent ---------------------------------------------------------------------------------------------------


def test_a_chain_hands_on_to_the_first_parameter_that_is_free() -> None:
    rest: Any = store  # type checkers want every argument; `previous` names the one that comes
    steps = sent(chain(fetch.s("u"), parse, rest.s(table="t"), total))
    assert steps == {
        "fetch": ({"url": "u"}, None, []),
        "parse": ({}, {"previous": ""}, ["node fetch as previous"]),
        "store": ({"table": "t"}, {"words": "words"}, ["node parse as words"]),
        "total": ({}, {"counts": "counts"}, ["node store as counts"]),
    }


def test_previous_names_the_place_and_steps_may_be_joined_with_a_bar() -> None:
    steps = sent(fetch.s("u") | parse | store.s(["a"], table=previous) | store.s(words=previous, dry=True))
    assert steps["store"] == ({"words": ["a"]}, {"table": "table"}, ["node parse as table"])
    assert steps["store-2"] == ({"dry": True}, {"words": "words"}, ["node store as words"])


def test_an_object_takes_the_result_as_its_rest() -> None:
    steps = sent(chain(fetch.s("u"), parse.s({"url": "mine", "body": "b"})))
    assert steps["parse"] == ({"url": "mine", "body": "b"}, {"previous": ""}, ["node fetch as previous"])


def test_a_chord_waits_for_its_group_and_gets_a_list() -> None:
    steps = sent(chord([store.s(["a"]), store.s(["b"]), chain(fetch.s("u"), parse, store)], total))
    assert list(steps) == ["store", "store-2", "fetch", "parse", "store-3", "total"]
    assert steps["total"] == ({}, {"counts": "counts[]"}, ["group group-1 as counts"])
    flow = chord([store.s(["a"]), chain(fetch.s("u"), parse, store)], total)._flow("", {})
    groups = {node.name: node.group for node in flow._messages}
    assert groups == {"store": "group-1", "fetch": "", "parse": "", "store-2": "group-1", "total": ""}


def test_a_group_in_a_chain_gets_the_result_and_gives_a_list() -> None:
    steps = sent(chain(fetch.s("u"), group(parse, parse.s(previous)), total))
    assert [steps[name][1:] for name in ("parse", "parse-2")] == [
        ({"previous": ""}, ["node fetch as previous"]),
        ({"previous": ""}, ["node fetch as previous"]),
    ]
    assert steps["total"][2] == ["group group-1 as counts"]


def test_a_chord_of_nothing_gets_an_empty_list() -> None:
    assert sent(chord([], total)) == {"total": ({}, {"counts": "counts[]"}, [])}
    assert bound({}, '{"counts":"counts[]"}', [], ["counts"]) == {"counts": []}


def test_map_starmap_and_chunks() -> None:
    assert [step[0] for step in sent(fetch.map(["a", "b"])).values()] == [{"url": "a"}, {"url": "b"}]
    starred = sent(store.starmap([(["a"], "t"), (["b"], "u", True)]))
    assert [step[0] for step in starred.values()] == [
        {"words": ["a"], "table": "t"},
        {"words": ["b"], "table": "u", "dry": True},
    ]
    chunks = total.chunks(range(7), 3)
    assert [step[0]["counts"] for step in sent(chunks).values()] == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(chunks) == 3
    with pytest.raises(jobwire.InvalidArgument, match="at least 1"):
        total.chunks([1], 0)


def test_a_flow_binds_by_arguments_and_orders_by_after() -> None:
    flow = Flow("nightly")
    page = flow.add(fetch.s("u"))
    words = flow.add(parse.s(page.result), name="words")
    other = flow.add("go.words", {"page": page, "lang": "de"}, options={"queue": "go"})
    counts = flow.add(group(store.s(words.result), store.s(other.result)))
    flow.add(total.s(counts.result), after=[page.finished])
    flow.add(total.s([counts.nodes[0].result, counts.nodes[1].result]))
    flow.add(fetch.s("alarm"), name="alarm", after=[words.failed, counts.failed, "01a2-id"])
    assert sent(flow) == {
        "fetch": ({"url": "u"}, None, []),
        "words": ({}, {"previous": ""}, ["node fetch as previous"]),
        "go.words": ({"lang": "de"}, {"page": "page"}, ["node fetch as page"]),
        "store": ({}, {"words": "words"}, ["node words as words"]),
        "store-2": ({}, {"words": "words"}, ["node go.words as words"]),
        "total": ({}, {"counts": "counts[]"}, ["group group-1 as counts", "node fetch finished"]),
        "total-2": (
            {},
            {"store": "counts[]", "store-2": "counts[]"},
            ["node store as store", "node store-2 as store-2"],
        ),
        "alarm": ({"url": "alarm"}, None, ["node words failed", "group group-1 failed", "job_id 01a2-id"]),
    }
    assert [node.job.queue for node in flow._messages[1:3]] == ["cpu", "go"]
    assert {node.job.id for node in flow._messages} == {""}


def test_options_of_a_workflow() -> None:
    flow = Flow(
        "nightly",
        on_node_failure="hold",
        on_success=fetch.s("done"),
        on_finish=total.s([1]),
        tags=["a"],
        total_timeout="1h",
        retention="2d",
    )
    spec = flow._spec
    assert (spec.name, spec.on_node_failure, list(spec.tags)) == ("nightly", 3, ["a"])
    assert (spec.total_timeout.seconds, spec.retention.seconds) == (3600, 172800)
    assert (spec.on_success.type, spec.on_success.id, spec.on_finish.type) == ("fetch", "", "total")
    assert not spec.HasField("on_failure")
    assert spec.id


def test_what_is_large_goes_in_parts() -> None:
    flow = total.map([[n] for n in range(2500)])._flow("", {})
    creation, more = _requests(flow)
    assert (len(creation.workflow.nodes), creation.workflow.open) == (1000, True)
    assert [len(request.nodes) for request in additions("id", more)] == [1000, 500]
    heavy = store.map([["x" * 300_000] for _ in range(5)])._flow("", {})
    creation, more = _requests(heavy)
    assert creation.ByteSize() < 1 << 20
    parts = list(additions("id", more))
    assert len(creation.workflow.nodes) + sum(len(part.nodes) for part in parts) == 5
    assert all(part.ByteSize() < 1 << 20 for part in parts)


# --- what is refused ------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: sent(chain(parse)), TypeError, "parse: page is missing"),
    (lambda: sent(chain(parse.s(previous))), TypeError, "no step before"),
    (lambda: sent(chain(fetch.s("u"), store.s(["a"], "t", True))), TypeError, "every parameter is given"),
    (lambda: sent(chain(fetch.s("u"), store.s(dry=True, tabel="t"))), TypeError, "unexpected keyword argument"),  # type: ignore[call-arg]
    (lambda: sent(chain(fetch.s("u"), 7)), TypeError, r"expected task\.s"),  # type: ignore[arg-type]
    (lambda: chain(), jobwire.InvalidArgument, "at least one"),
    (lambda: sent(group([group([fetch.s("u")])])), TypeError, "a group within a group"),
    (lambda: Flow().add(fetch.s("u"), after=[7]), jobwire.InvalidArgument, "expected nodes, groups, jobs"),
    (lambda: Flow("n", retries=3), TypeError, "unknown option 'retries'"),  # type: ignore[call-arg]
    (lambda: Flow("n", on_node_failure="panic"), jobwire.InvalidArgument, "none of cancel_dependants"),  # type: ignore[arg-type]
    (lambda: Flow().workflow, RuntimeError, "created when the block ends"),
    (lambda: Flow().add(fetch.s("u"), options={"queue": "q"}), TypeError, "options of a task call go before"),  # type: ignore[call-overload]
    (lambda: Flow().add(chain(fetch.s("u")), name="n"), TypeError, "are of single calls"),  # type: ignore[call-overload]
    (lambda: sent(chain(fetch.s("u"), parse.opts(unique=str))), jobwire.InvalidArgument, "unique: is a function"),
    (lambda: Flow().add(total.s([Node[int](str(n)) for n in range(51)])), jobwire.InvalidArgument, "at most 50"),  # type: ignore[misc]
    (lambda: group([]).enqueue(), jobwire.InvalidArgument, "type names alone"),
]


@pytest.mark.parametrize(("make", "kind", "said"), MISTAKES, ids=[said for _, _, said in MISTAKES])
def test_mistakes(make: Callable[[], Any], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        make()


def test_names_are_unique() -> None:
    flow = Flow()
    flow.add(fetch.s("u"), name="a")
    with pytest.raises(jobwire.InvalidArgument, match="there is a node 'a' already"):
        flow.add(fetch.s("v"), name="a")


# --- what handlers get ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_results_by_the_cases_of_all_languages(case: dict[str, Any]) -> None:
    header = None if "bind" not in case else json.dumps(case["bind"])
    results = [(found["alias"], found.get("result")) for found in case["dependencies"]]
    if case.get("refused"):
        with pytest.raises(DecodeError, match=HEADER):
            bound(case["payload"], header, results, None)
    else:
        assert bound(case["payload"], header, results, None) == case["input"]


@pytest.mark.parametrize("header", ["", "[]", "null", '"x"', '{"a":1}'])
def test_a_header_that_is_no_object_of_strings(header: str) -> None:
    with pytest.raises(DecodeError, match="no JSON object of strings"):
        bound({}, header, [], None)


def lease(payload: str, bind: dict[str, str], **results: Any) -> pb.JobLease:
    job = pb.JobLease(task=pb.Task(headers={HEADER: json.dumps(bind)}))
    job.task.payload.text = payload
    for alias, value in results.items():
        job.dependencies.add(alias=alias).result.text = json.dumps(value)
    return job


def test_handlers_of_several_parameters() -> None:
    assert store._arguments(lease('{"table":"t"}', {"p": ""}, p=["a"]))[1] == {"table": "t", "words": ["a"]}
    assert store._arguments(lease("{}", {"p": "words", "q": "table"}, p=["a"], q="t"))[1] == {
        "words": ["a"],
        "table": "t",
    }
    assert parse._arguments(lease('{"url":"u"}', {"p": ""}, p={"url": "x", "body": "b"}))[1] == {
        "page": {"url": "u", "body": "b"}
    }
    with pytest.raises(DecodeError, match="words: expected an array"):
        store._arguments(lease("{}", {"p": "words"}, p="text"))
