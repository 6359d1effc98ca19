"""What `read` makes of events, without a model."""

import json

import numpy as np

from microscope.cli.output import write_json
from microscope.cli.read_command import Reading, report
from microscope.core.messages import FeaturesRead, PromptTokenised
from microscope.core.prompts import Token


def test_a_token_with_nothing_to_explain_has_no_error_share(capsys):
    reading = Reading(n_layers=1, top=1, max_features=1)
    reading.take(PromptTokenised(run_id=0, tokens=(Token(5, "a"), Token(6, "b"))))
    reading.take(
        FeaturesRead(
            run_id=0,
            sae="s",
            token=0,
            indices=np.full((2, 1), -1, np.int32),
            activations=np.zeros((2, 1), np.float32),
            n_active=np.zeros(2, np.int32),
            error_share=np.array([0.5, np.nan], np.float32),
            norm=np.array([1.0, 0.0], np.float32),
        )
    )
    reading.lens = None
    write_json(report({}, reading, {}), "-")
    assert json.loads(capsys.readouterr().out)["error_share"] == {"s": [0.5, None]}
