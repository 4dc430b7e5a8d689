"""The order of the examples in the gallery: from the first to read to what only some need."""

FIRST = (
    "plot_first_months.py",
    "plot_two_oscillators.py",
    "plot_families.py",
    "plot_three_ways.py",
    "plot_drug_response.py",
    "plot_promotions.py",
    "plot_model_selection.py",
    "plot_streaming.py",
    "plot_many_series.py",
)


class ReadingOrder:
    """Sort key of sphinx-gallery, made with the folder of the examples; new ones come last."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, name):
        """Key of an example, by the name of its file."""
        return (FIRST.index(name) if name in FIRST else len(FIRST), name)
