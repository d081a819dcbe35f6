"""What is said of a target beside its name reaches the code."""

import numpy as np
import pytest

from attncli.checking.targets.given import Given
from attncli.checking.targets.loading import load_targets, targets_of

SIZES = {"N": 2, "T_dec": 3, "T_enc": 5, "H": 7}
LAYER = """\
import numpy as np
class Projecting:
    def __init__(self, W):
        self.params, self.grads = [W], [np.zeros_like(W)]
    def forward(self, hs, a):
        return hs @ self.params[0]
    def backward(self, dout):
        return dout @ self.params[0].T, None
"""


@pytest.fixture
def layer(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(LAYER)
    return str(path)


def test_shapes_reach_the_process_of_a_target_and_the_one_that_takes_its_place(layer):
    (target,) = load_targets(layer, given=Given(shapes={"W": (7, 2)}))
    for one in (target, target.anew()):
        out = one.start(SIZES).forward(np.ones((2, 5, 7)), np.ones((2, 5)))
        assert out.shape == (2, 5, 2)
        one.end()


def test_shapes_reach_an_object():
    names: dict = {}
    exec(LAYER, names)
    (target,) = targets_of(names["Projecting"], Given(shapes={"W": (7, 2)}))
    assert target.start(SIZES).parameters[0].shape == (7, 2)


def test_what_is_said_survives_the_way_to_another_process():
    given = Given({"W": np.eye(3), "scale": 0.5, "name": "mine"}, {"b": (2, 3)}, "cpu")
    parts: list = []
    told = given.told(parts)
    read = Given.read(told, parts)
    assert read.arguments["W"].tolist() == np.eye(3).tolist()
    assert (read.arguments["scale"], read.shapes, read.device) == (0.5, {"b": (2, 3)}, "cpu")
    assert Given.read(Given().told([]), []) == Given()
    assert not Given()
    assert read
