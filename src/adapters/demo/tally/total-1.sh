is "reads two digits" 1234 cents 12.34
is "reads a whole number" 700 cents 7
is "reads a leading zero" 5 cents 0.05
is "refuses a word" error cents twelve
is "adds up a list" 1300 total_of 12.34 "" 0.66
