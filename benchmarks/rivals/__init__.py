"""What `MTLDSRegressor` is compared with, and the estimators of the package, behind two calls.

    fit(train)                       learn from a list of sequences
    forecast(known, truth, horizon)  forecast sequences of which some outputs are known

`horizon` None: every row from all that is known; 1: every row from what is known before it. `truth`
is the same sequences with all outputs, for the densities. The result is a list of `Forecast`.
"""
