"""A model folder answers OpenAI's chat completions: these files are copied beside each packaged model.

They need numpy, ONNX Runtime GenAI, Jinja, Starlette and uvicorn, and nothing of olivine.
"""
