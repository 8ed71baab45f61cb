"""Recurrent calls of an exported program (LSTM, GRU): the names of their weights, and the module for them."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

aten = torch.ops.aten

RECURRENT: Mapping[Any, type[nn.LSTM] | type[nn.GRU]] = {aten.lstm.input: nn.LSTM, aten.gru.input: nn.GRU}
"""The operators on padded batches; those on packed sequences stay as they are."""


def recurrent_weights(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights of a recurrent call by the names that ``nn.LSTM`` and ``nn.GRU`` give them.

    Nothing if there are others than those (an LSTM with a projection).
    """
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if arguments["has_biases"] else ("weight_ih", "weight_hh")
    names = [
        f"{kind}_l{layer}{direction}"
        for layer in range(arguments["num_layers"])
        for direction in (("", "_reverse") if arguments["bidirectional"] else ("",))
        for kind in kinds
    ]
    weights = arguments["params"]
    return dict(zip(names, weights, strict=True)) if len(names) == len(weights) else {}


def recurrent_module(tensors: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> nn.Module:
    """Return an LSTM or GRU of these sizes, its weights still to be set."""
    width, hidden = tensors["weight_ih_l0"].shape[1], tensors["weight_hh_l0"].shape[1]
    kind = nn.LSTM if len(tensors["weight_ih_l0"]) == 4 * hidden else nn.GRU
    return kind(
        width,
        hidden,
        arguments["num_layers"],
        bias=arguments["has_biases"],
        batch_first=arguments["batch_first"],
        dropout=arguments["dropout"],
        bidirectional=arguments["bidirectional"],
        device="meta",
    )


def nest_states(call: fx.Node) -> None:
    """Let the users of a recurrent call find its last states where the module has them.

    The operator returns (output, h, c), ``nn.LSTM`` (output, (h, c)).
    """
    states = [user for user in call.users if user.target is operator.getitem and user.args[1] != 0]
    for user in states:
        with call.graph.inserting_before(user):
            nested = call.graph.call_function(operator.getitem, (call, 1))
        user.args = (nested, int(user.args[1]) - 1)  # type: ignore[arg-type]  # a number: it is a tuple's index
