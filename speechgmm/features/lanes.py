"""Sixteen frames side by side: a vector of float32 that compiled code can compute with like a number.

The compiler of plain loops must prove that rows of arrays do not overlap before it may use vector instructions, and
cannot do so for an FFT in place. A value of type `Lanes` is one vector, whatever the loop around it. A row of a
(n_rows, LANES) float32 array is read by `load(array, row)` and written by `store(array, row, vector)`; vectors know
+, - and *, and `spread(number)` is the vector that has it in every lane.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from speechgmm.compiled import FAST

LANES = 16
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INDEX = ir.IntType(32)
# Memory of float32 arrays is aligned to their items, not to vectors.
_ALIGNMENT = 4


class _LanesType(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="Lanes")


Lanes = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _address(context: Any, builder: Any, array_type: Any, array: Any, row: Any) -> Any:
    """Where a row of a (n_rows, LANES) array begins."""
    data = context.make_array(array_type)(context, builder, array).data
    offset = builder.mul(row, context.get_constant(types.intp, LANES))
    return builder.bitcast(builder.gep(data, [offset]), _VECTOR.as_pointer())


def _load(typing_context: Any, array: Any, row: Any) -> Any:
    """The vector in a row."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, _ = signature.args
        return builder.load(_address(context, builder, kind, *arguments), align=_ALIGNMENT)

    return Lanes(array, types.intp), generate


def _store(typing_context: Any, array: Any, row: Any, vector: Any) -> Any:
    """Write a vector into a row."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, index, value = arguments
        builder.store(value, _address(context, builder, signature.args[0], target, index), align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(array, types.intp, Lanes), generate


def _spread(typing_context: Any, number: Any) -> Any:
    """The vector that has a number in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(nothing, arguments[0], ir.Constant(_INDEX, 0))
        zeros = ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES)
        return builder.shuffle_vector(first, nothing, zeros)

    return Lanes(types.float32), generate


def _larger(typing_context: Any, left: Any, right: Any) -> Any:
    """The larger number of each lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return Lanes(Lanes, Lanes), generate


def _reaching(typing_context: Any, vector: Any, bound: Any) -> Any:
    """Which lanes are no less than a number: bit i of an int32 stands for lane i."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, bound = arguments
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(nothing, bound, ir.Constant(_INDEX, 0))
        zeros = ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES)
        found = builder.fcmp_ordered(">=", vector, builder.shuffle_vector(first, nothing, zeros))
        return builder.zext(builder.bitcast(found, ir.IntType(LANES)), _INDEX)

    return types.int32(Lanes, types.float32), generate


def _bits_set(typing_context: Any, number: Any) -> Any:
    """How many bits of an int32 are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int32(types.int32), generate


def _turn(typing_context: Any, source: Any, start: Any, step: Any, target: Any, row: Any) -> Any:
    """Write LANES rows of `target`: row i is item `start + i` of `source`, and `step` further on in each next lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        items = []
        for lane in range(LANES):
            skip = builder.mul(arguments[2], context.get_constant(types.intp, lane))
            address = builder.gep(data, [builder.add(arguments[1], skip)])
            items.append(builder.load(builder.bitcast(address, _VECTOR.as_pointer()), align=_ALIGNMENT))
        for lane, vector in enumerate(_transposed(builder, items)):
            place = builder.add(arguments[4], context.get_constant(types.intp, lane))
            address = _address(context, builder, signature.args[3], arguments[3], place)
            builder.store(vector, address, align=_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp), generate


def _transposed(builder: Any, vectors: list[Any]) -> list[Any]:
    """LANES vectors as the columns of a square turned into its rows.

    Riffling the first half of the vectors with the second, item by item, moves the highest binary digit of each
    item's place to the end; after as many rounds as there are digits, rows and columns have changed places.
    """
    half = LANES // 2
    low, high = (
        ir.Constant(
            ir.VectorType(_INDEX, LANES), [place // 2 + start + LANES * (place % 2) for place in range(LANES)]
        )
        for start in (0, half)
    )
    for _ in range(LANES.bit_length() - 1):
        pairs = list(zip(vectors[:half], vectors[half:], strict=True))
        vectors = [builder.shuffle_vector(*pair, mask) for pair in pairs for mask in (low, high)]
    return vectors


def _define(operation: Callable[..., Any], instruction: str) -> None:
    """Teach the compiler an operation on two vectors."""

    class _Typing(AbstractTemplate):  # type: ignore[misc]
        def generic(self, arguments: Any, keywords: Any) -> Any:
            return signature(Lanes, Lanes, Lanes) if tuple(arguments) == (Lanes, Lanes) else None

    infer_global(operation)(_Typing)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments, flags=sorted(FAST))

    lower_builtin(operation, Lanes, Lanes)(generate)


load, store, spread = intrinsic(_load), intrinsic(_store), intrinsic(_spread)
larger, turn = intrinsic(_larger), intrinsic(_turn)
reaching, bits_set = intrinsic(_reaching), intrinsic(_bits_set)
for _operation, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _define(_operation, _instruction)
