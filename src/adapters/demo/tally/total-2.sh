is "shows a total" 13.00 show 1300
is "shows a negative total" -0.05 show -5
