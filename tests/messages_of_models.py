"""Messages of the estimators and of `SequencePosterior`."""

import numpy as np
from message_makers import (
    TIMES,
    copied,
    family,
    fit,
    inputs_begin_to_move,
    known_rows,
    named_posterior,
    pooled,
    posterior,
    predict,
    reversed_outputs,
    rows,
    single,
    strange_sequences,
    swapped_inputs,
    swapped_outputs,
    thin_posterior,
    warm,
    with_index,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor

from mtds_sklearn import MTLDSRegressor, PooledLDS, RowWise, SingleTaskLDS

# What is done, the kind of the answer, and its text; <number> stands for any number.
MESSAGES = {
    "nothing observed by fit": (
        lambda: fit(y=np.full(48, np.nan)),
        ValueError,
        "PooledLDS: y has no observed value; at least 1 of its 48 must not be NaN.",
    ),
    "labels that fit had": (
        lambda: predict(groups=None),
        ValueError,
        "PooledLDS was fitted with the labels of 4 sequences, so it needs the label of every "
        "row: pass groups, or a DataFrame X with a row MultiIndex (sequence, time); got 48 rows "
        "without labels. String scorers, cross_val_predict and predict of a search drop groups: "
        "the MultiIndex passes through them, and ForecastScorer hands groups on",
    ),
    "a sequence that begins elsewhere": (
        lambda: predict(times=TIMES + 2),
        ValueError,
        "PooledLDS needs each sequence from its first row; sequence 0 began at time 0 when it "
        "was learned and begins at 2 here (4 of 4 known sequences differ). Rows to come go below "
        "the known ones, with NaN in y_context; what is another sequence needs another label; "
        "cross-validation must not cut sequences (GroupKFold, PrefixSplit)",
    ),
    "context of other outputs": (
        lambda: predict(y_context=np.zeros((48, 2))),
        ValueError,
        "PooledLDS: y_context needs the 1 outputs seen in fit, got 2 outputs",
    ),
    "context of outputs in another order": (
        lambda: swapped_outputs(),
        ValueError,
        "PooledLDS: y_context needs the outputs seen in fit, in their order, ['pressure', "
        "'index']; got ['index', 'pressure']",
    ),
    "labels of another type": (
        lambda: predict(groups=rows()["groups"].astype(str)),
        UserWarning,
        "PooledLDS: 4 of 4 labels are those of sequences of fit but for their type, the first is "
        "'0' where fit had 0: they are taken for new sequences",
    ),
    "an output without values": (
        lambda: fit(y=np.column_stack([rows()["y"], np.full(48, np.nan)])),
        UserWarning,
        "PooledLDS: 1 of 2 outputs have no observed value in y, the first is output 1; what is "
        "forecast for them means nothing",
    ),
    "rows of y in another order than those of X": (
        lambda: fit(X=with_index("patient", "minute"), y=reversed_outputs()),
        UserWarning,
        "PooledLDS: the row indexes of X and y hold the same labels in another order (48 of 48 "
        "rows differ), and rows are matched by position. If one of them was sorted or shuffled, "
        "the other needs the same",
    ),
    "rows of the context in another order": (
        lambda: fit(X=with_index("patient", "minute")).predict(
            with_index("patient", "minute"), y_context=reversed_outputs()
        ),
        UserWarning,
        "PooledLDS: the row indexes of X and y_context hold the same labels in another order (48 "
        "of 48 rows differ), and rows are matched by position. If one of them was sorted or "
        "shuffled, the other needs the same",
    ),
    "rows to score in another order": (
        lambda: fit(X=with_index("patient", "minute")).score(
            with_index("patient", "minute"), reversed_outputs()
        ),
        UserWarning,
        "PooledLDS.score: the row indexes of X and y hold the same labels in another order (48 "
        "of 48 rows differ), and rows are matched by position. If one of them was sorted or "
        "shuffled, the other needs the same",
    ),
    "context in other units": (
        lambda: predict(y_context=1000.0 + TIMES),
        UserWarning,
        "PooledLDS: half of the 48 values of y_context (output 0) lie at least 1.35e+03 standard "
        "deviations from the mean of y in fit, which was -0.5423 with standard deviation 0.7455. "
        "Is y_context in the units of y? (TransformedTargetRegressor transforms y, but not "
        "y_context.)",
    ),
    "quantiles that are words": (
        lambda: predict(quantiles="median"),
        ValueError,
        "PooledLDS: quantiles must be a non-empty sequence of levels strictly between 0 and 1, "
        "got 'median'",
    ),
    "quantile levels in per cent": (
        lambda: predict(quantiles=[5, 95]),
        ValueError,
        "PooledLDS: quantiles must be a non-empty sequence of levels strictly between 0 and 1, "
        "got [5, 95]",
    ),
    "horizon 0": (
        lambda: predict(horizon=0),
        ValueError,
        "PooledLDS: horizon must be None or an integer >= 1, got 0",
    ),
    "score of nothing": (
        lambda: pooled().score(**rows(), y_context=rows()["y"]),
        ValueError,
        "PooledLDS.score needs at least one observed value of y that y_context does not reveal, "
        "got none: of 48 values 48 are observed and y_context reveals 48",
    ),
    "learning that is cut short": (
        lambda: PooledLDS(1, max_iter=1).fit(**rows()),
        ConvergenceWarning,
        "PooledLDS did not converge in max_iter=1 iterations: the bound still changed by more "
        "than tol=2e-05 per observed value. More iterations (max_iter) or a larger tol end it.",
    ),
    "learning of sequences that is cut short": (
        lambda: SingleTaskLDS(1, max_iter=1).fit(**rows()),
        ConvergenceWarning,
        "SingleTaskLDS did not converge in max_iter=1 iterations for 4 of 4 sequences, the first "
        "is 0. More iterations (max_iter) or a larger tol end it.",
    ),
    "one sequence": (
        lambda: MTLDSRegressor(1, 1, n_init=1, disturbance="none").fit(rows()["X"], rows()["y"]),
        UserWarning,
        "MTLDSRegressor learns what differs between sequences, and got 1 sequence; pass groups, "
        "or a DataFrame X with a row MultiIndex (sequence, time). In a search or "
        "cross-validation groups and times reach the estimator with "
        "sklearn.set_config(enable_metadata_routing=True). With one sequence PooledLDS does the "
        "same with fewer parameters.",
    ),
    "an unknown kind that varies": (
        lambda: MTLDSRegressor(varying=["A", "Z"]).fit(**rows()),
        ValueError,
        "MTLDSRegressor: varying must be 'all' or a tuple of names among ('A', 'B', 'C', 'D', "
        "'offset', 'x0', 'K', 'noise'), got ['A', 'Z'] with the unknown ['Z']",
    ),
    "a gain that varies where there is none": (
        lambda: MTLDSRegressor(varying=("A", "K"), disturbance="none").fit(**rows()),
        ValueError,
        "MTLDSRegressor: a gain that varies needs one: varying=('A', 'K') names 'K', but "
        "disturbance='none'; set disturbance='innovations', 'joint' or 'auto'",
    ),
    "two kinds of noise levels": (
        lambda: MTLDSRegressor(varying=("noise",), sequence_noise=True).fit(**rows()),
        ValueError,
        "MTLDSRegressor: noise levels are either part of theta (varying=('noise',) names 'noise') "
        "or integrated out (sequence_noise=True), not both",
    ),
    "specific variances with noise levels": (
        lambda: MTLDSRegressor(specific_variances=True, sequence_noise=True).fit(**rows()),
        ValueError,
        "MTLDSRegressor: specific variances are integrated out where noise is the same for all "
        "sequences; got specific_variances=True with sequence_noise=True. Set one of them to "
        'False, or specific_variances="auto", which then finds none.',
    ),
    "more latents than entries": (
        lambda: MTLDSRegressor(1, 8).fit(**rows()),
        ValueError,
        "MTLDSRegressor: latent_dim must be at most 7, the number of entries of theta with "
        "n_states=1, 2 inputs and 1 outputs; got latent_dim=8",
    ),
    "row-wise without a complete row": (
        lambda: RowWise(Ridge()).fit(rows()["X"], np.full((48, 2), [1.0, np.nan])),
        ValueError,
        "RowWise: y has no observed value in a complete row; at least 1 of its 48 rows must not "
        "hold NaN (48 of 96 values are NaN)",
    ),
    "row-wise weights that are not known": (
        lambda: RowWise(KNeighborsRegressor()).fit(rows()["X"], rows()["y"], np.ones(48)),
        ValueError,
        "RowWise: sample_weight was given, and KNeighborsRegressor.fit does not know it",
    ),
    "a fixed horizon of single tasks": (
        lambda: single().predict(**known_rows(), y_context=rows()["y"], horizon=2),
        ValueError,
        "SingleTaskLDS.predict cannot forecast at a fixed horizon: it would have to learn every "
        "sequence anew after each row; got horizon=2. Pass y_context alone, which gives the "
        "forecast from one set of known rows.",
    ),
    "an unseen sequence of single tasks": (
        lambda: single().predict(**(known_rows() | {"groups": rows()["groups"] + 9})),
        ValueError,
        "SingleTaskLDS: sequence 9 was not among the 4 sequences of fit and has no value in "
        "y_context; with unseen='raise' it cannot be forecast",
    ),
    "nothing observed in a stream": (
        lambda: copied(pooled()).partial_fit(**(rows() | {"y": np.full(48, np.nan)})),
        ValueError,
        "PooledLDS.partial_fit: y has no observed value; at least 1 of its 48 must not be NaN",
    ),
    "inputs that begin to move": (
        lambda: inputs_begin_to_move(),
        UserWarning,
        "PooledLDS.partial_fit ignores the inputs [1], which were zero in all rows of the first "
        "sequences and are not in 6 of 48 rows now; fit again with data in which they move.",
    ),
    "sequences that a stream cannot express": (
        lambda: strange_sequences(),
        UserWarning,
        "MTLDSRegressor.partial_fit: the squared residuals of these 4 sequences are <number> "
        "times the noise variance before them: they may show what 1 states learned from 4 "
        "sequences cannot express (n_states allows no more). If this goes on, fit again.",
    ),
    "warm start with other inputs": (
        lambda: warm(X=np.ones((48, 3))),
        ValueError,
        "PooledLDS with warm_start=True goes on from the earlier fit, which had 2 inputs and 1 "
        "outputs; got 3 inputs and 1 outputs",
    ),
    "warm start with other parameters": (
        lambda: warm(n_states=3),
        ValueError,
        "PooledLDS with warm_start=True goes on from the earlier fit, whose parameters must "
        "stay; got n_states=3 (was 1). Set warm_start=False to learn anew.",
    ),
    "latents of another dimension": (
        lambda: family().sample_sequences(rows()["X"][:12], z=np.zeros((3, 2))),
        ValueError,
        "MTLDSRegressor.sample_sequences: z needs shape (n_sequences, 1), got (3, 2)",
    ),
    "latents that are not finite": (
        lambda: family().sample_sequences(rows()["X"][:12], z=[[0.0], [np.nan]]),
        ValueError,
        "MTLDSRegressor.sample_sequences: z must be finite; 1 of 2 values are not",
    ),
    "inputs of several sequences": (
        lambda: family().sample_sequences(with_index("patient", "minute")),
        ValueError,
        "MTLDSRegressor.sample_sequences: X needs the rows of one sequence, its row index tells "
        "of 4",
    ),
    "no sequence to draw": (
        lambda: family().sample_sequences(rows()["X"][:12], 0),
        ValueError,
        "MTLDSRegressor.sample_sequences: n_sequences must be an integer >= 1, got 0",
    ),
    "half a path": (
        lambda: family().sample_y(**known_rows(), n_samples=1.5),
        ValueError,
        "MTLDSRegressor.sample_y: n_samples must be an integer >= 1, got 1.5",
    ),
    "no path of a posterior": (
        lambda: posterior().sample(np.zeros((4, 2)), 0),
        ValueError,
        "SequencePosterior.sample: n_samples must be an integer >= 1, got 0",
    ),
    "setting what is immutable": (
        lambda: setattr(posterior(), "label", 3),
        AttributeError,
        "SequencePosterior is immutable; cannot set 'label'",
    ),
    "new rows with other inputs": (
        lambda: posterior().update(np.zeros((2, 3)), np.zeros(2)),
        ValueError,
        "SequencePosterior.update: inputs need shape (n_rows, 2), got (2, 3)",
    ),
    "new rows with other outputs": (
        lambda: posterior().update(np.zeros((2, 2)), np.zeros(3)),
        ValueError,
        "SequencePosterior.update: y needs 2 rows of 1 outputs, got shape (3,)",
    ),
    "new rows with inputs in another order": (
        lambda: named_posterior().update(swapped_inputs(), np.zeros(2)),
        ValueError,
        "SequencePosterior.update: u needs the inputs seen in fit, in their order, ['dose', "
        "'weight']; got ['weight', 'dose']",
    ),
    "a new row with inputs in another order": (
        lambda: named_posterior().update(swapped_inputs().iloc[0], 0.0),
        ValueError,
        "SequencePosterior.update: u needs the inputs seen in fit, in their order, ['dose', "
        "'weight']; got ['weight', 'dose']",
    ),
    "rows to come with inputs in another order": (
        lambda: named_posterior().predict(swapped_inputs()),
        ValueError,
        "SequencePosterior.predict: U needs the inputs seen in fit, in their order, ['dose', "
        "'weight']; got ['weight', 'dose']",
    ),
    "new rows with gaps in the inputs": (
        lambda: posterior().update([0.0, np.nan], 1.0),
        ValueError,
        "SequencePosterior.update: X must be finite; 1 of 2 values are not, the first is in row 0.",
    ),
    "a posterior that rests on few draws": (
        lambda: thin_posterior(),
        UserWarning,
        "MTLDSRegressor: the posterior of 2 of 3 sequences rests on fewer than 100 effective "
        "draws; label (effective draws): 'p2' (31), 'p3' (99)",
    ),
}
