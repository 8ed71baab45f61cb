"""The five nets by name."""

from benchmarks.nets import conv1d, digits_cnn, encoder, lstm, resnet18

NETS = {module.NET.name: module.NET for module in (digits_cnn, conv1d, lstm, encoder, resnet18)}
