"""A FastAPI application with a route, a parameter and an error."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException

app = FastAPI()


@app.get("/items/{number}")
async def item(number: int) -> dict[str, int]:
    """Answers the number, or 404 for large ones."""
    if number > 100:
        raise HTTPException(404)
    return {"number": number}


@app.get("/health")
async def health() -> str:
    """Answers when the application is up."""
    return "ok"
