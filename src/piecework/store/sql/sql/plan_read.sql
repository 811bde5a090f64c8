SELECT plan FROM piecework_plan WHERE digest = :digest
