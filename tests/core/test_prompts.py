import math

import pytest

from microscope.core.errors import SamplerRejected
from microscope.core.prompts import Sampler


def test_the_default_sampler_is_in_range():
    Sampler().check()
    Sampler(0, 50, 0.9, 0.05, 1.2).check()


@pytest.mark.parametrize(
    ("sampler", "name"),
    [
        (Sampler(temperature=-1), "temperature"),
        (Sampler(temperature=math.nan), "temperature"),
        (Sampler(top_k=-1), "top-k"),
        (Sampler(top_p=0), "top-p"),
        (Sampler(top_p=1.1), "top-p"),
        (Sampler(min_p=2), "min-p"),
        (Sampler(repetition_penalty=0), "repetition penalty"),
    ],
)
def test_a_setting_out_of_range_is_named(sampler, name):
    with pytest.raises(SamplerRejected, match=name):
        sampler.check()
