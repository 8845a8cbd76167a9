"""MOA's own loop over a block, put together in Java without a line of Java: test, then train, and keep every vote.

CapyMOA offers two ways: one call a step from Python, less than half as fast for a Hoeffding tree
(`python -m benchmarks.moa`), or a whole evaluation in Java, which gives its final scores only.
`java.lang.invoke.MethodHandles` composes calls and loops into code that Java compiles as it does any other.
"""

from __future__ import annotations

from typing import Any

INSTANCE, INDEX, ROWS, LABELS, WEIGHTS, VOTES = range(6)  # of an event: the instance, its number, the four arrays


class _Handles:
    """Java's classes of the loop, and how handles on their methods are found and put together."""

    def __init__(self) -> None:
        import jpype

        self.java = jpype.JClass
        self.compose, self._type = (
            self.java("java.lang.invoke.MethodHandles"),
            self.java("java.lang.invoke.MethodType"),
        )
        self._lookup = self.compose.publicLookup()
        kinds = (self.java(f"java.lang.{name}").TYPE for name in ("Void", "Double", "Integer", "Boolean"))
        self.void, self.number, self.whole, self.truth = kinds
        self.vector, self.matrix = self.java("double[]").class_, self.java("double[][]").class_
        self.instance, self.dataset, self.dense = (
            self.java(f"com.yahoo.labs.samoa.instances.{name}").class_
            for name in ("Instance", "Instances", "DenseInstance")
        )
        self.event = [self.instance, self.whole, self.matrix, self.vector, self.vector, self.matrix]
        self.element = self.compose.arrayElementGetter(self.vector)

    def type(self, returns: Any, *takes: Any) -> Any:
        return self._type.methodType(returns, list(takes))

    def method(self, owner: Any, name: str, returns: Any, *takes: Any) -> Any:
        return self._lookup.findVirtual(owner, name, self.type(returns, *takes))

    def static(self, owner: str, name: str, returns: Any, *takes: Any) -> Any:
        return self._lookup.findStatic(self.java(owner).class_, name, self.type(returns, *takes))

    def constructor(self, owner: Any, *takes: Any) -> Any:
        return self._lookup.findConstructor(owner, self.type(self.void, *takes))

    def of_event(self, handle: Any, *arguments: int) -> Any:
        """Make a handle take a whole event, of which it uses these arguments."""
        wide = self.type(handle.type().returnType(), *self.event)
        return self.compose.permuteArguments(handle, wide, list(arguments))

    def in_turn(self, *steps: Any) -> Any:
        last = steps[-1]
        for step in reversed(steps[:-1]):
            last = self.compose.foldArguments(last, step)
        return last

    def set_to_element(self, name: str, array: int) -> Any:
        """Give the instance the event's number in one of the arrays."""
        setter = self.method(self.instance, name, self.void, self.number)
        return self.of_event(self.compose.collectArguments(setter, 1, self.element), INSTANCE, array, INDEX)


def compose_loop(learner: Any, header: Any, n_classes: int) -> Any:
    """Compose the loop over one learner.

    The handle takes (rows, labels, weights, votes): double[n][d + 1] whose last column is missing, double[n],
    double[n] where 0 is "predict only", and double[n][], which it fills with C votes each.
    """
    h = _Handles()
    attach = h.compose.insertArguments(h.method(h.instance, "setDataset", h.void, h.dataset), 1, [header])
    body = h.in_turn(h.of_event(attach, INSTANCE), _test(h, learner, n_classes), _train(h, learner))
    length = h.static("java.lang.reflect.Array", "getLength", h.whole, h.java("java.lang.Object").class_)
    count = length.asType(h.type(h.whole, h.matrix))
    return h.compose.countedLoop(count, None, h.compose.foldArguments(body, _new_instance(h)))


def _new_instance(h: _Handles) -> Any:
    """Make an instance of the event's row."""
    import jpype

    make = h.compose.insertArguments(h.constructor(h.dense, h.number, h.vector), 0, [jpype.JDouble(1.0)])
    make = h.compose.collectArguments(make, 0, h.compose.arrayElementGetter(h.matrix))
    make = make.asType(h.type(h.instance, h.matrix, h.whole))
    return h.compose.permuteArguments(make, h.type(h.instance, *h.event[1:]), [ROWS - 1, INDEX - 1])


def _test(h: _Handles, learner: Any, n_classes: int) -> Any:
    """Store the learner's votes; MOA votes for the classes seen so far only, so they are padded."""
    import jpype

    vote = h.method(h.java("moa.classifiers.Classifier").class_, "getVotesForInstance", h.vector, h.instance)
    copy = h.static("java.util.Arrays", "copyOf", h.vector, h.vector, h.whole)
    padded = h.compose.filterReturnValue(
        vote.bindTo(learner), h.compose.insertArguments(copy, 1, [jpype.JInt(n_classes)])
    )
    store = h.compose.filterArguments(h.compose.arrayElementSetter(h.matrix), 2, [padded])
    return h.of_event(store, VOTES, INDEX, INSTANCE)


def _train(h: _Handles, learner: Any) -> Any:
    """Give the instance its weight and class, and train on it, where the weight is above 0."""
    import jpype

    learn = h.method(h.java("moa.classifiers.Classifier").class_, "trainOnInstance", h.void, h.instance)
    train = h.in_turn(
        h.set_to_element("setWeight", WEIGHTS),
        h.set_to_element("setClassValue", LABELS),
        h.of_event(learn.bindTo(learner), INSTANCE),
    )
    compare = h.static("java.lang.Double", "compare", h.whole, h.number, h.number)
    above_zero = h.compose.insertArguments(compare, 1, [jpype.JDouble(0.0)])
    has_weight = h.compose.explicitCastArguments(
        h.compose.collectArguments(above_zero, 0, h.element), h.type(h.truth, h.vector, h.whole)
    )
    return h.compose.guardWithTest(h.of_event(has_weight, WEIGHTS, INDEX), train, h.compose.empty(train.type()))
