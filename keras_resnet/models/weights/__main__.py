"""`python -m keras_resnet.models.weights` prints a table of the published weights."""

from keras_resnet.models.weights.published import table

if __name__ == "__main__":
    print(table())
