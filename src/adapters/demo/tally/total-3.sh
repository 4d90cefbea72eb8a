# From a customer's invoice, where 2.5 was read as 2.05.
is "one decimal digit means tens of cents" 250 cents 2.5
is "adds up one and two digits" 500 total_of 2.5 2.50
