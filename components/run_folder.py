"""The names of the files in the folder of one run: what a comparison reads of it, beside its record and its history."""

FIGURES_NAME = "figures.json"
SAMPLES_NAME = "answers.json"
GGUF_ANSWERS_NAME = "answers-gguf.json"
