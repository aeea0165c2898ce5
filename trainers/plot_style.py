"""How the curves of several methods are told apart in plots."""

# Okabe & Ito's colours, told apart in colour-blindness too; grey for their yellow, which is too light for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = "os^vDPX*"
