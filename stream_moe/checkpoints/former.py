"""What older programs called the same model: a checkpoint of theirs is still known to be its."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

# An expert was written down as its class, with the module that it lay in.
_EXPERTS = {
    "adaptive-tree": "adaptive_tree.AdaptiveTree",
    "averaged-softmax": "averaged_softmax.AveragedSoftmax",
    "history-softmax": "history.HistorySoftmax",
    "hoeffding-tree": "hoeffding_tree.HoeffdingTree",
    "knn": "knn.WindowKNN",
    "naive-bayes": "naive_bayes.NaiveBayes",
    "no-change": "no_change.NoChange",
    "prototypes": "prototypes.MovingPrototypes",
    "softmax": "softmax.SoftmaxRegression",
    "value-rates": "value_rates.ValueRates",
    "target-encoding": "value_rates.ValueRates",
    "MoaExpert": "moa_expert.MoaExpert",
    "RiverExpert": "river_expert.RiverExpert",
}
# On the command line and, of a state as bytes, the class.
_MODELS = {
    "target-encoding": "value-rates",
    "DriftMoE": "DriftMixture",
    "DriftMoEData": "DriftMoE",
    "DriftMoETask": "DriftMoE",
    "DriftMoETwoStage": "TwoStage",
}
# One class had both published variants, and wrote down what only the other one looks at.
_DATA = {"variant": "'data'", "vote": "False"}
_TASK = {"variant": "'task'", "n_experts": "12", "top_k": "3", "mini_batch": "256", "temperature": "0.8"}
_OTHERS = {"driftmoe-data": _DATA, "DriftMoEData": _DATA, "driftmoe-task": _TASK, "DriftMoETask": _TASK}


def former(model: str, parameters: Mapping[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the names, and the parameters as text, under which older programs kept what this one learns.

    Examples
    --------
    >>> next(former("DriftMoEData", {"seed": "1"}))
    ('DriftMoE', {'variant': "'data'", 'vote': 'False', 'seed': '1'})
    """
    then = {**_OTHERS.get(model, {}), **parameters}
    if (expert := _EXPERTS.get(then.get("expert", "").strip("'"))) is not None:
        then["expert"] = f"<class 'stream_moe.experts.{expert}'>"
    if "without" in then:
        then["without"] = then["without"].replace("target-encoding", "value-rates")
    name = _MODELS.get(model, model)
    yield name, then
    if then.get("hidden") == "256":  # there was no other width, and an engine did not write it down
        yield name, {key: value for key, value in then.items() if key != "hidden"}
