"""A Flask application with a route, a parameter and an error."""

from __future__ import annotations

from flask import Flask, abort

app = Flask(__name__)


@app.get("/items/<int:number>")
def item(number: int) -> dict[str, int]:
    """Answers the number, or 404 for large ones."""
    if number > 100:
        abort(404)
    return {"number": number}


@app.get("/health")
def health() -> str:
    """Answers when the application is up."""
    return "ok"
