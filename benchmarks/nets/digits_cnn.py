"""A small residual CNN on images of digits: the net of the digits example."""

from benchmarks.nets.base import Net, digits_as
from burnish.examples.digits import DigitsNet, train_digits

NET = Net("digits_cnn", "image", build=DigitsNet, train=train_digits, samples=lambda: digits_as(lambda x_nchw: x_nchw))
