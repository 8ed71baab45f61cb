"""The JSON Schema of ``result.json``; ``python -m tasks.optimizer.result_schema`` writes it to standard output."""

import json
import sys

from registry.records.optimization import OptimizationResult


def result_schema() -> str:
    """Return the schema of an optimization's result as indented JSON, one line feed at its end.

    Source: https://json-schema.org/draft/2020-12
    """
    schema = OptimizationResult.model_json_schema(mode="serialization")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "The result of burnish optimize"}
    return json.dumps(head | schema | {"title": head["title"]}, indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(result_schema())
