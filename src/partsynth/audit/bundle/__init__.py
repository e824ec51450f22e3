"""One run as a folder that a third party can check without partsynth."""
