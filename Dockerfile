# docker build --tag keras-resnet . && docker run --rm keras-resnet
# trains, evaluates and exports a ResNet-20 on embedded real images, as `make demo` does.
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home user
USER user
WORKDIR /home/user/keras_resnet
COPY --chown=user . .
RUN make .venv/.package
CMD ["make", "demo"]
