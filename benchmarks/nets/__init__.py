"""The five nets that the benchmark optimizes, written and trained here."""
