"""Other libraries' classifiers: the same figures as by their own tools, and what is said when a name does not fit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from river import evaluate, forest, linear_model, metrics, naive_bayes
from river.base import Classifier

from benchmarks import arff
from stream_moe.errors import ConfigError, DataError
from stream_moe.models.catalogue import build_model
from stream_moe.models.foreign import parse_call
from stream_moe.streams import open_stream
from stream_moe.types import Schema
from tests.laws.cases import HAS_JAVA, SCHEMA, events, mixed_stream

TWO = Schema.numeric(2, ["no", "yes"])
needs_java = pytest.mark.skipif(not HAS_JAVA and "CI" not in os.environ, reason="no Java here")


@needs_java
@pytest.mark.parametrize(
    ("name", "learner"),
    [
        ("ARF3", ("AdaptiveRandomForestClassifier", {"ensemble_size": 3})),
        ("HoeffdingTree(grace_period=50)", ("HoeffdingTree", {"grace_period": 50})),
        ("OzaBoost4", ("OzaBoost", {"boosting_iterations": 4})),
    ],
)
def test_capymoa_scores_what_its_own_java_loop_does(
    name: str, learner: tuple[str, dict[str, int]], tmp_path: Path
) -> None:
    x, y = mixed_stream(3000)  # nominal, numeric and missing values
    x, y = (np.round(x[y >= 0] * 64) / 64).astype(np.float32), y[y >= 0]  # as text they are the same numbers
    ours = build_model(f"capymoa:{name}", SCHEMA, seed=5)
    right = np.concatenate([ours.step(x[s : s + 700], y[s : s + 700]).argmax(1) for s in range(0, len(x), 700)]) == y
    import capymoa.classifier
    from capymoa.evaluation import prequential_evaluation
    from capymoa.stream import ARFFStream

    arff.write(tmp_path / "events.arff", x, y, SCHEMA)
    stream = ARFFStream(path=str(tmp_path / "events.arff"))
    kind, parameters = learner
    theirs = getattr(capymoa.classifier, kind)(schema=stream.get_schema(), random_seed=5, **parameters)
    found = prequential_evaluation(stream, theirs, max_instances=len(x), window_size=len(x), optimise=True)
    assert right.mean() > 0.5
    assert right.mean() * 100 == pytest.approx(found.cumulative.accuracy(), abs=1e-9)


@needs_java
def test_the_seed_reaches_moa() -> None:
    block = next(open_stream("electricity").blocks(2000))
    schema = open_stream("electricity").schema
    said = [build_model("capymoa:ARF3", schema, seed=seed).step(block.x, block.y) for seed in (1, 2, 1)]
    assert np.array_equal(said[0], said[2])
    assert not np.array_equal(said[0], said[1])


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("ARFClassifier(n_models=3)", forest.ARFClassifier(n_models=3, seed=5)),
        ("ARFClassifier(n_models=3, seed=9)", forest.ARFClassifier(n_models=3, seed=9)),
        ("GaussianNB", naive_bayes.GaussianNB()),
        ("LogisticRegression(l2=0.01)", linear_model.LogisticRegression(l2=0.01)),
    ],
)
def test_river_scores_what_its_own_evaluation_does(name: str, theirs: Classifier) -> None:
    schema = Schema.numeric(3, ["0", "1"])
    block = next(open_stream("sea_a", seed=2).blocks(1500))
    right = build_model(f"river:{name}", schema, seed=5).step(block.x, block.y).argmax(1) == block.y
    stream = [(event, bool(label)) for event, label in zip(events(block.x, schema), block.y, strict=True)]
    score = evaluate.progressive_val_score(stream, theirs, metrics.Accuracy())
    # River leaves out an event for which a model names no class at all, the first, and we score class 0.
    assert score.cm.n_samples in {1500, 1499}
    skipped = 1500 - int(score.cm.n_samples)
    assert right[skipped:].sum() == score.cm.total_true_positives
    assert right.mean() > 0.6


def test_settings_go_into_the_brackets_and_into_the_digest() -> None:
    with pytest.raises(ConfigError, match=r"river:ARFClassifier: its settings go into its brackets"):
        build_model("river:ARFClassifier", TWO, options={"n_models": "3"})
    brackets = ["n_models=2", "n_models=3", "n_models=2, seed=7", "n_models=2, lambda_value=1"]
    assert len({build_model(f"river:ARFClassifier({inside})", TWO).digest for inside in brackets}) == 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nolibrary:ARF", r"nolibrary:ARF: no module 'nolibrary'; it must be installed here"),
        ("river:", r"write it as LIBRARY:CLASS or"),
        ("river:tree.HoeffdingTreeClassifier", r"write it as LIBRARY:CLASS"),
        ("river:GaussianNB()()", r"write it as LIBRARY:CLASS"),
        ("river:GaussianNB(", r"write it as LIBRARY:CLASS"),
        ("river:__import__('os').system('ls')", r"write it as LIBRARY:CLASS"),
        ("river:KNNClassifier(3)", r"every argument needs its keyword: KNNClassifier\(KEYWORD"),
        ("river:KNNClassifier(**{'n_neighbors': 3})", r"every argument needs its keyword"),
        ("river:KNNClassifier(n_neighbors=open('x'))", r"n_neighbors=open\('x'\) is no literal"),
        ("river:KNNClassifier(n_neighbors=2*3)", r"n_neighbors=2 \* 3 is no literal"),
        ("river:Forest", r"river:Forest: river has no such classifier.*ARFClassifier.*KNNClassifier"),
        ("river:StandardScaler", r"no such classifier"),
        ("river:BaggingClassifier", r"no such classifier that stands alone"),  # it needs a model
        ("river:KNNClassifier(k=3)", r"no parameter 'k'; it takes n_neighbors"),
        ("river:KNNClassifier(n_neighbors='three')", r"river.*KNNClassifier.*TypeError"),
        ("river:ARFClassifier(n_models='ten')", r"river.*ARFClassifier.*TypeError"),
    ],
)
@pytest.mark.parametrize("schema", [TWO, None], ids=["schema", "no schema"])
def test_what_does_not_fit_is_named(name: str, said: str, schema: Schema | None) -> None:
    with pytest.raises(ConfigError, match=said) as found:
        build_model(name, schema)
    assert "\n" not in str(found.value)


@needs_java
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("capymoa:Forest", r"no such MOA learner; choose one of .*ARF.*kNN.*SRP"),
        ("capymoa:SGDClassifier", r"no such MOA learner"),  # scikit-learn's
        ("capymoa:ARF(trees=3)", r"no parameter 'trees'; it takes CLI, random_seed, base_learner, ensemble_size"),
        ("capymoa:HoeffdingTree3", r"HoeffdingTree takes no size; leave the 3 out"),
        ("capymoa:ARF3(ensemble_size=4)", r"ARF has its size twice, as 3 and as ensemble_size"),
        ("capymoa:HoeffdingTree(grace_period='often')", r"capymoa:HoeffdingTree.*often"),
    ],
)
def test_what_does_not_fit_capymoa_is_named(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as found:
        build_model(name, TWO)
    assert "\n" not in str(found.value)


def test_a_stream_that_a_model_does_not_take() -> None:
    with pytest.raises(ConfigError, match=r"river-LogisticRegression: it tells two classes apart; the stream has 3"):
        build_model("river:LogisticRegression", Schema.numeric(2, ["a", "b", "c"]))
    with pytest.raises(ConfigError, match=r"river-LogisticRegression: it does not take such an event \(TypeError"):
        build_model("river:LogisticRegression", Schema(SCHEMA.features, ("a", "b")))
    model = build_model("river:ComplementNB", TWO)
    with pytest.raises(DataError, match=r"river-ComplementNB: it does not take such an event.*\{'x0': -7.0"):
        model.step(np.array([[-1, 2], [3, -4], [-7, -9]] * 9, np.float32), np.array([0, 1, 1] * 9, np.int32))


@needs_java
def test_moa_does_not_grow() -> None:
    model = build_model("capymoa:NaiveBayes", None)
    model.learn_one({"a": 1.0}, "no")
    with pytest.raises(ConfigError, match=r"MOA takes no new features, categories or classes"):
        model.learn_one({"a": 1.0}, "yes")


def replay_with(model: str, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = f"{code}\nimport sys; sys.argv = ['stream-moe', 'replay', 'electricity', '--events', '100', '--model', "
    command += f"{model!r}, '--quiet']; from stream_moe.cli import main; main()"
    kept = {key: value for key, value in os.environ.items() if key != "JAVA_HOME"}
    return subprocess.run(
        [sys.executable, "-c", command], env=kept | environment, capture_output=True, text=True, check=False
    )


def test_without_capymoa_or_without_java_one_line_says_what_to_install() -> None:
    done = replay_with("capymoa:ARF10", "import sys; sys.modules['capymoa'] = None")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'stream-moe[baselines]'" in done.stderr
    for environment in ({"PATH": ""}, {"JAVA_HOME": "/nowhere"}):
        done = replay_with("capymoa:ARF10", **environment)
        assert done.returncode == 2, environment
        assert done.stderr.count("\n") == 1, done.stderr
        assert "needs Java 17 or newer" in done.stderr


def test_a_name_is_taken_apart_without_running_it() -> None:
    assert parse_call("", "A") == ("A", {})
    assert parse_call("", " A( b = -1.5, c=[1, (2,)], d={'e': None}) ") == (
        "A", {"b": -1.5, "c": [1, (2,)], "d": {"e": None}}
    )  # fmt: skip
    for deep in ("A(b=" + "(" * 10_000, "A(b=" + "-" * 100_000 + "1)", "A(b='\0')", "\ud800"):
        with pytest.raises(ConfigError):
            parse_call("x", deep)
