"""The API reference, drawn from the OpenAPI document."""
