"""What runs after training: querying exports, serving them, and promoting them from a registry."""

if __name__ == "serve":  # `python -m serve.predict` in a clone, the name before there was a package
    from train import use_clone

    use_clone()
