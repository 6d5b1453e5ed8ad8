"""What every endpoint shares and no endpoint owns."""
