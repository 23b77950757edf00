"""The packages of the wheel: the three floors under names that no user's folder has.

pyproject.toml holds everything else; setuptools finds packages in folders of other names only where it is told here.
"""

from setuptools import find_packages, setup

FLOORS = {"headstart": "headstart", "headstart_components": "components", "headstart_pipelines": "pipelines"}

setup(
    package_dir=FLOORS,
    packages=[
        package
        for name, folder in FLOORS.items()
        for package in [name, *(f"{name}.{inner}" for inner in find_packages(folder))]
    ],
)
