"""Read and write annotated texts and tagged sentences in the formats of other tools."""
