"""How fast and how good is it, on real data? Scripts that write their own tables into bench/README.md."""
