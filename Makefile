.PHONY: demo test lint format bench venv

demo test lint format bench venv:
	@python3 tools/dev.py $@ $(ARGS)
