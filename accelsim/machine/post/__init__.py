"""The post unit: how long an instruction takes, and the codes that it makes."""
