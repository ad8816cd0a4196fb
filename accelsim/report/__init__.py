"""Results for people: tables, pictures, and the worked example of one output element."""
