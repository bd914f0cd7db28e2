"""How right the verdicts are: the lab's scenarios come in, run at random on a real kernel; a table of every verdict goes out."""
