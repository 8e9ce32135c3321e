.PHONY: demo test lint format bench venv build-OnwardFunction

demo test lint format bench venv:
	@python3 tools/dev.py $@ $(ARGS)

# What `sam build` calls: this checkout, with wheels for Lambda whatever machine builds.
LAMBDA_PYTHON ?= 3.13
build-OnwardFunction:
	@python3 -m pip install -q --no-compile --disable-pip-version-check --target "$(ARTIFACTS_DIR)" \
		--platform manylinux2014_x86_64 --python-version $(LAMBDA_PYTHON) --only-binary=:all: \
		. -r templates/aws-lambda/src/requirements.txt
	@cp templates/aws-lambda/src/app.py "$(ARTIFACTS_DIR)/"
