"""MOA's own loop over a block, put together in Java without a line of Java: test, then train, and keep every vote.

CapyMOA offers two ways: one call a step from Python, less than half as fast for a Hoeffding tree
(`python -m benchmarks.moa`), or a whole evaluation in Java, which gives its final scores only.
`java.lang.invoke.MethodHandles` composes calls and loops into code that Java compiles as it does any other.
"""

from __future__ import annotations

from typing import Any


def compose_loop(learner: Any, header: Any, n_classes: int) -> Any:
    """Compose the loop over one learner.

    The handle takes (rows, labels, weights, votes): double[n][d + 1] whose last column is missing, double[n],
    double[n] where 0 is "predict only", and double[n][], which it fills with C votes each.
    """
    import jpype

    java = jpype.JClass
    handles, method_type = java("java.lang.invoke.MethodHandles"), java("java.lang.invoke.MethodType")
    lookup = handles.publicLookup()
    void, number, whole, truth = (java(f"java.lang.{n}").TYPE for n in ("Void", "Double", "Integer", "Boolean"))
    vector, matrix = java("double[]").class_, java("double[][]").class_
    instance, dataset, dense = (
        java(f"com.yahoo.labs.samoa.instances.{n}").class_ for n in ("Instance", "Instances", "DenseInstance")
    )
    classifier = java("moa.classifiers.Classifier").class_
    event = [instance, whole, matrix, vector, vector, matrix]  # the instance, its number, and the four arrays
    INSTANCE, INDEX, ROWS, LABELS, WEIGHTS, VOTES = range(6)

    def method(owner: Any, name: str, returns: Any, *takes: Any) -> Any:
        return lookup.findVirtual(owner, name, method_type.methodType(returns, list(takes)))

    def static(owner: str, name: str, returns: Any, *takes: Any) -> Any:
        return lookup.findStatic(java(owner).class_, name, method_type.methodType(returns, list(takes)))

    def of_event(handle: Any, *arguments: int) -> Any:
        """Make a handle take a whole event, of which it uses these arguments."""
        wide = method_type.methodType(handle.type().returnType(), event)
        return handles.permuteArguments(handle, wide, list(arguments))

    def in_turn(*steps: Any) -> Any:
        last = steps[-1]
        for step in reversed(steps[:-1]):
            last = handles.foldArguments(last, step)
        return last

    element = handles.arrayElementGetter(vector)

    def set_to_element(name: str, array: int) -> Any:
        return of_event(
            handles.collectArguments(method(instance, name, void, number), 1, element), INSTANCE, array, INDEX
        )

    attach = of_event(handles.insertArguments(method(instance, "setDataset", void, dataset), 1, [header]), INSTANCE)
    vote = method(classifier, "getVotesForInstance", vector, instance).bindTo(learner)
    # MOA votes for the classes seen so far only.
    pad = handles.insertArguments(
        static("java.util.Arrays", "copyOf", vector, vector, whole), 1, [jpype.JInt(n_classes)]
    )
    store = handles.filterArguments(handles.arrayElementSetter(matrix), 2, [handles.filterReturnValue(vote, pad)])
    test = of_event(store, VOTES, INDEX, INSTANCE)
    learn = of_event(method(classifier, "trainOnInstance", void, instance).bindTo(learner), INSTANCE)
    train = in_turn(set_to_element("setWeight", WEIGHTS), set_to_element("setClassValue", LABELS), learn)
    compare = handles.insertArguments(
        static("java.lang.Double", "compare", whole, number, number), 1, [jpype.JDouble(0.0)]
    )
    has_weight = handles.explicitCastArguments(
        handles.collectArguments(compare, 0, element), method_type.methodType(truth, [vector, whole])
    )
    train_some = handles.guardWithTest(of_event(has_weight, WEIGHTS, INDEX), train, handles.empty(train.type()))
    make = handles.insertArguments(
        lookup.findConstructor(dense, method_type.methodType(void, [number, vector])), 0, [jpype.JDouble(1.0)]
    )
    make = handles.collectArguments(make, 0, handles.arrayElementGetter(matrix))
    make = make.asType(method_type.methodType(instance, [matrix, whole]))
    make = handles.permuteArguments(make, method_type.methodType(instance, event[1:]), [ROWS - 1, INDEX - 1])
    length = static("java.lang.reflect.Array", "getLength", whole, java("java.lang.Object").class_)
    count = length.asType(method_type.methodType(whole, [matrix]))
    return handles.countedLoop(count, None, handles.foldArguments(in_turn(attach, test, train_some), make))
