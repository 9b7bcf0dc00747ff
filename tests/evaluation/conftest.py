from hypothesis import settings

# Machines that run tests are busy with other things: no example fails for its time.
settings.register_profile("spacy_modernbert", deadline=None)
settings.load_profile("spacy_modernbert")
