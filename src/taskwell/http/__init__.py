"""The parts that all endpoints share and no endpoint owns."""
